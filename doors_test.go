package main

import (
	"net"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"golang.org/x/sync/errgroup"
)

// A signal that comes between listening and serving ends the program too.
func TestShutdownBeforeServing(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &doors{list: []door{{ln, fiber.New(fiber.Config{DisableStartupMessage: true})}}, release: func() {}}
	d.shutdown()
	var group errgroup.Group
	d.serve(&group)
	ended := make(chan error, 1)
	go func() { ended <- group.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("got %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the door is served after the shutdown")
	}
}
