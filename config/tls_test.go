package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// pair writes a self-signed certificate and its key into dir.
func pair(t *testing.T, dir, cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"h.example"}}
	public, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: public}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCertificates(t *testing.T) {
	path := write(t, "tls_cert = \"c.pem\"\ntls_key = \"k.pem\"\n[[providers]]\nname = \"a\"\nbase_url = \"https://a\"\nca = \"c.pem\"\n")
	dir := filepath.Dir(path)
	pair(t, dir, "c.pem", "k.pem")
	c, err := Load(Source{Path: path, Getenv: env()})
	if err != nil {
		t.Fatal(err)
	}
	if c.TLSCert != filepath.Join(dir, "c.pem") || c.TLSKey != filepath.Join(dir, "k.pem") || c.Providers[0].CA != c.TLSCert {
		t.Errorf("got tls_cert %s, tls_key %s, ca %s", c.TLSCert, c.TLSKey, c.Providers[0].CA)
	}

	pair(t, dir, "other.pem", "k.pem")
	_, err = Load(Source{Path: path, Getenv: env()})
	if err == nil || !strings.Contains(err.Error(), ":1: tls_cert: cannot be used with tls_key") {
		t.Errorf("with the key of another certificate: got %v, want a problem with tls_cert", err)
	}

	if err := os.WriteFile(filepath.Join(dir, "c.pem"), []byte(strings.Repeat("#", maxFile+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Load(Source{Path: path, Getenv: env()})
	if err == nil || !strings.Contains(err.Error(), ":6: providers[0].ca: cannot be read") {
		t.Errorf("with an authority of more than a megabyte: got %v, want a problem with ca", err)
	}
}

// TestReloadTLS: other files are taken over, turning TLS off is not.
func TestReloadTLS(t *testing.T) {
	path := write(t, "tls_cert = \"c.pem\"\ntls_key = \"k.pem\"\n")
	dir := filepath.Dir(path)
	pair(t, dir, "c.pem", "k.pem")
	pair(t, dir, "c2.pem", "k2.pem")
	src := Source{Path: path, Getenv: env()}
	first, err := Load(src)
	if err != nil {
		t.Fatal(err)
	}
	live := NewLive(src, first)

	var wait sync.WaitGroup
	for range 4 { // reloads and readers beside each other, for the race detector
		wait.Go(func() {
			if _, err := live.Reload(); err != nil {
				t.Error(err)
			}
		})
		wait.Go(func() {
			if live.Get().TLSCert == "" {
				t.Error("a reader saw half a configuration")
			}
		})
	}
	wait.Wait()

	if err := os.WriteFile(path, []byte("tls_cert = \"c2.pem\"\ntls_key = \"k2.pem\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	restart, err := live.Reload()
	if err != nil || len(restart) != 0 || live.Get().TLSCert != filepath.Join(dir, "c2.pem") {
		t.Errorf("other files: got %q, %v, tls_cert %s", restart, err, live.Get().TLSCert)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	restart, err = live.Reload()
	if err != nil || len(restart) != 2 || live.Get().TLSCert != filepath.Join(dir, "c2.pem") {
		t.Errorf("TLS turned off: got %q, %v, tls_cert %s", restart, err, live.Get().TLSCert)
	}
}
