package config

import (
	"os"
	"slices"
	"testing"
)

func TestReload(t *testing.T) {
	path := write(t, "listen = \":1\"\ndrain = \"1s\"\n")
	src := Source{Path: path, Getenv: env()}
	first, err := Load(src)
	if err != nil {
		t.Fatal(err)
	}
	live := NewLive(src, first)
	var told []*Config
	live.OnChange(func(c *Config) { told = append(told, c) })
	rewrite := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	rewrite("listen = \"nonsense\"\n")
	if _, err := live.Reload(); err == nil || live.Get() != first || len(told) != 0 {
		t.Fatalf("a wrong file: got %v, the configuration changed: %t, %d were told", err, live.Get() != first, len(told))
	}

	rewrite("drain = \"2s\"\nlisten = \":2\"\nadmin_listen = \":3\"\ndata_dir = \"other\"\ntimezone = \"Etc/GMT+1\"\n[log]\nlevel = \"warn\"\nformat = \"json\"\n")
	restart, err := live.Reload()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"listen", "admin_listen", "data_dir", "timezone", "log.format"}
	if !slices.Equal(restart, want) {
		t.Errorf("got %q to need a restart, want %q", restart, want)
	}
	c := live.Get()
	if FormatDuration(c.Drain) != "2s" || c.Log.Level != "warn" {
		t.Errorf("the new drain and log.level are not in force: %+v", c)
	}
	if c.Listen != ":1" || c.AdminListen != "" || c.DataDir != first.DataDir || c.Timezone != first.Timezone || c.Log.Format != "auto" {
		t.Errorf("a setting that needs a restart changed: %+v", c)
	}
	if len(told) != 1 || told[0] != c {
		t.Errorf("%d were told, want one, of the new configuration", len(told))
	}
}
