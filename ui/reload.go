package ui

// reloadConfig has the running server read its configuration again.
func (a *Admin) reloadConfig(r *request) error {
	if err := r.noBody(); err != nil {
		return err
	}
	changed, err := a.readConfig(r)
	if err != nil {
		return err
	}
	return r.json(200, struct {
		Changes list `json:"changes"`
	}{changed})
}

// readConfig has the running server read its configuration again, and tells what
// changed.
func (a *Admin) readConfig(r *request) ([]string, error) {
	if a.reload == nil {
		return nil, errOffline("A reload")
	}
	changed, err := a.reload(r.ctx)
	if err != nil {
		return nil, &Error{Status: 400, Type: "invalid_request_error", Code: "invalid_configuration",
			Message: "The configuration was not taken over, the old one stays in force: " + err.Error(), Err: err}
	}
	entry := r.audit(a.now(), "config.reload", "", "")
	entry.After = encode(map[string]any{"changes": list(changed)})
	if err := a.store.AddAudit(r.ctx, entry); err != nil {
		a.log.Warn().Err(err).Msg("note the reload in the audit trail")
	}
	return changed, nil
}

// noBody refuses fields on a route that takes none.
func (r *request) noBody() error {
	body, err := readBody(r.c)
	if err != nil {
		return err
	}
	fields, err := parseObject(body, "")
	if err == nil && len(fields) > 0 {
		err = errInvalid("This takes no field %s.", quote(fields[0].name))
	}
	return err
}
