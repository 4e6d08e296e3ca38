package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"golang.org/x/sync/errgroup"

	"tokenhub/config"
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

// Other certificate files that a reload named were not read when their times were
// those of the old ones, as in an image or after cp -p.
func TestOtherCertificateFilesOfTheSameTime(t *testing.T) {
	dir := t.TempDir()
	cfg := &config.Config{TLSCert: filepath.Join(dir, "a.pem"), TLSKey: filepath.Join(dir, "a.key")}
	certs := &certificates{current: func() *config.Config { return cfg }}
	old := certificatePair(t, cfg)
	if cert, err := certs.get(nil); err != nil || !bytes.Equal(cert.Certificate[0], old) {
		t.Fatalf("the first pair: %v", err)
	}
	cfg = &config.Config{TLSCert: filepath.Join(dir, "b.pem"), TLSKey: filepath.Join(dir, "b.key")}
	renewed := certificatePair(t, cfg)
	certs.looked = time.Time{} // it is looked again
	if cert, err := certs.get(nil); err != nil || !bytes.Equal(cert.Certificate[0], renewed) {
		t.Errorf("the pair of other files is not in use: %v", err)
	}
}

// certificatePair writes a certificate and its key, always of one time, and
// returns the former.
func certificatePair(t *testing.T, cfg *config.Config) (public []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"h.example"}}
	public, err = x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	made := time.Unix(1_700_000_000, 0)
	for name, block := range map[string]*pem.Block{cfg.TLSCert: {Type: "CERTIFICATE", Bytes: public}, cfg.TLSKey: {Type: "PRIVATE KEY", Bytes: secret}} {
		writeFile(t, name, string(pem.EncodeToMemory(block)))
		if err := os.Chtimes(name, made, made); err != nil {
			t.Fatal(err)
		}
	}
	return public
}
