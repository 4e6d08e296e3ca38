package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"tokenhub/config"
	"tokenhub/proxy"
)

// importPrices turns LiteLLM's price list into the price file of the data
// folder. The file is replaced as a whole or not at all; a running server reads
// it at its next reload.
func importPrices(_ context.Context, cfg *config.Config, file string) (report string, err error) {
	in, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer in.Close()
	if _, err := os.Stat(cfg.DataDir); errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("there is no data folder %s yet: start tokenhub once, or name the folder with --data", cfg.DataDir)
	}
	out, err := os.CreateTemp(cfg.DataDir, proxy.PriceFile+".*")
	if err != nil {
		return "", err
	}
	defer os.Remove(out.Name())
	written, skipped, err := proxy.ImportLiteLLM(in, out)
	if err == nil {
		err = out.Chmod(0o644) // prices are no secret, and root may import them for the server's user
	}
	if err == nil {
		err = out.Sync()
	}
	if closed := out.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return "", err
	}
	path := filepath.Join(cfg.DataDir, proxy.PriceFile)
	if err := os.Rename(out.Name(), path); err != nil {
		return "", err
	}
	return fmt.Sprintf("Wrote the prices of %d models to %s; %d were left out, since their price is of another kind. A running server takes them on with: tokenhub reload", written, path, skipped), nil
}
