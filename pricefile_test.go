package main

import (
	"os"
	"path/filepath"
	"testing"

	"tokenhub/config"
	"tokenhub/proxy"
)

// Root imports prices for a server that runs as somebody else, who has to be able
// to read them.
func TestImportedPricesAreReadable(t *testing.T) {
	dir := t.TempDir()
	list := filepath.Join(dir, "list.json")
	if err := os.WriteFile(list, []byte(`{"m":{"litellm_provider":"openai","mode":"chat","input_cost_per_token":1e-6,"output_cost_per_token":2e-6}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := config.Defaults()
	cfg.DataDir = dir
	if _, err := importPrices(t.Context(), cfg, list); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, proxy.PriceFile))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o644 {
		t.Errorf("the mode is %v", info.Mode())
	}
}
