package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"tokenhub/config"
)

// databaseName is the file in the data folder that makes it one.
const databaseName = "tokenhub.db"

// settings are the configuration as one command sees it.
type settings struct {
	*config.Config
	// wrong is what is wrong with the configuration; the operating commands can
	// still speak with a running server, which has the secrets that are missing here.
	wrong error
}

// source says where the configuration is read from.
func (a *app) source(listen string) config.Source {
	return config.Source{
		Path: a.configFile, Getenv: a.Getenv, Dir: a.Dir,
		Overrides: config.Overrides{Listen: listen, DataDir: a.dataDir},
	}
}

// settings reads the configuration for an operating command. A service often
// gets its secrets from variables and files that its operator's shell does not
// have. They do not matter for finding the server, so it is done without them when
// they are missing; whoever goes on without a server looks at wrong first.
func (a *app) settings() (*settings, error) {
	source := a.source("")
	cfg, wrong := config.Load(source)
	if wrong == nil {
		return &settings{Config: cfg}, nil
	}
	source.WithoutSecrets = true
	cfg, err := config.Load(source)
	if err != nil {
		return nil, wrong
	}
	return &settings{Config: cfg, wrong: wrong}, nil
}

// need says what a command asks of the data folder while no server runs.
type need int

const (
	// mayCreate: a new folder will do, the command puts the first thing into it.
	mayCreate need = iota
	// mustExist: in a new folder there is nothing that the command could find.
	mustExist
)

// withAPI calls fn with the admin API: the running server's, or that of the
// store, opened for this call.
func (a *app) withAPI(ctx context.Context, n need, fn func(*api) error) error {
	s, err := a.settings()
	if err != nil {
		return err
	}
	return a.withAPIOf(ctx, s, n, fn)
}

// withAPIOf is withAPI for a command that has read the configuration.
func (a *app) withAPIOf(ctx context.Context, s *settings, n need, fn func(*api) error) error {
	server, err := online(ctx, s.Config)
	if errors.Is(err, errNoServer) {
		server, err = a.offline(ctx, s, n)
	}
	if err != nil {
		return err
	}
	err = fn(server)
	if closed := server.close(); err == nil && closed != nil {
		err = fmt.Errorf("close the data folder: %w", closed)
	}
	return err
}

// offline opens the store.
func (a *app) offline(ctx context.Context, s *settings, n need) (*api, error) {
	if s.wrong != nil {
		return nil, s.wrong
	}
	if n == mustExist {
		if _, err := os.Stat(filepath.Join(s.DataDir, databaseName)); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("there is no data in %s: name the right folder with --data, or start tokenhub first", s.DataDir)
		}
	}
	store, err := a.Open(ctx, s.Config)
	if err != nil {
		return nil, err
	}
	return &api{http: store.Client(), close: store.Close, zone: s.Timezone}, nil
}

// serverRuns reports whether a server works on the data folder.
func serverRuns(ctx context.Context, cfg *config.Config) (bool, error) {
	conn, err := dialSocket(ctx, cfg.DataDir)
	if errors.Is(err, errNoServer) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, conn.Close()
}
