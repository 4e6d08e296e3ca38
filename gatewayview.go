package main

import (
	"context"

	"tokenhub/proxy"
	"tokenhub/ui"
)

// gatewayView shows the gateway to the admin side, which does not know it.
type gatewayView struct{ *proxy.Gateway }

var _ ui.Gateway = gatewayView{}

func (v gatewayView) Providers(ctx context.Context) []ui.ProviderState {
	var list []ui.ProviderState
	for _, p := range v.Gateway.Providers(ctx) {
		list = append(list, ui.ProviderState{Name: p.Name, Status: p.Status, Models: p.Models, ModelsAt: p.ModelsAt,
			Running: p.Running, Waiting: p.Waiting, FirstByte: p.FirstByte, ErrorRate: p.ErrorRate,
			LastError: p.LastError, LastErrorAt: p.LastErrorAt, RestsUntil: p.RestsUntil})
	}
	return list
}

func (v gatewayView) Test(ctx context.Context, provider string) (ui.TestResult, error) {
	r, err := v.Gateway.Test(ctx, provider)
	return ui.TestResult(r), err
}

func (v gatewayView) Explain(ctx context.Context, q ui.ExplainQuery) (any, error) {
	return v.Gateway.Explain(ctx, proxy.Query{Key: q.Key, Path: q.Endpoint, Model: q.Model, MaxTokens: q.MaxTokens, Time: q.Time})
}
