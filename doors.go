package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/gofiber/fiber/v2"
	"golang.org/x/sync/errgroup"

	"tokenhub/cli"
	"tokenhub/config"
	"tokenhub/proxy"
	"tokenhub/ui"
)

// door is one listener with what answers behind it.
type door struct {
	listener net.Listener
	app      *fiber.App
}

// doors are all that the program listens on.
type doors struct {
	list []door
	url  string // of the gateway
	// here is where this machine reaches the gateway.
	here string
	// pages is where a browser on this machine opens the admin pages.
	pages string
	// release lets go of what the socket's path needs.
	release func()
}

// open listens on all addresses of the configuration, before anything is
// served: an address in use ends the start.
func (s *server) open(cfg *config.Config) (d *doors, err error) {
	d = &doors{release: func() {}}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	public, err := s.publicApp(cfg)
	if err != nil {
		return d, err
	}
	ln, err := s.listen(cfg.Listen, "listen")
	if err != nil {
		return d, err
	}
	d.url = "http://" + ln.Addr().String()
	if cfg.TLSCert != "" {
		d.url = "https://" + ln.Addr().String()
		certs := &certificates{current: s.current.Load}
		if _, err := certs.get(nil); err != nil {
			return d, err
		}
		ln = tls.NewListener(ln, &tls.Config{GetCertificate: certs.get, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}})
	}
	d.here = localURL(cfg, ln.Addr().String())
	d.pages = d.here
	d.list = append(d.list, door{ln, public})
	if cfg.AdminListen != "" {
		ln, err := s.listen(cfg.AdminListen, "admin_listen")
		if err != nil {
			return d, err
		}
		d.pages = "http://" + reachable(ln.Addr().String())
		d.list = append(d.list, door{ln, s.adminApp(ui.Network)})
	}
	socket, release, err := listenSocket(cfg.DataDir)
	d.release = release
	if err != nil {
		return d, err
	}
	d.list = append(d.list, door{proxy.NewListener(socket, s.log), s.adminApp(ui.Socket)})
	return d, nil
}

// listen opens a TCP address.
func (s *server) listen(address, key string) (net.Listener, error) {
	ln, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s %s is in use by another program: stop that one, or choose another address with --listen or %s in the configuration", key, address, key)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("%s %s may not be opened by this user: choose a port above 1023", key, address)
	case err != nil:
		return nil, fmt.Errorf("%s %s can't be opened: %w", key, address, err)
	}
	return proxy.NewListener(ln, s.log), nil
}

// listenSocket opens the Unix socket in the data folder. A file of that name is
// a leftover: who holds the lock of the folder is the only server.
func listenSocket(dir string) (net.Listener, func(), error) {
	path, release, err := cli.ShortPath(dir, cli.SocketName)
	if err != nil {
		return nil, release, err
	}
	if err := os.Remove(filepath.Join(dir, cli.SocketName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, release, fmt.Errorf("the old socket in the data folder can't be removed: %w", err)
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, release, fmt.Errorf("the socket in the data folder can't be opened: %w", err)
	}
	// Nobody else can enter the folder, so there is no moment in which it is open.
	if err := os.Chmod(path, 0o600); err != nil {
		return ln, release, fmt.Errorf("the socket in the data folder can't be closed to others: %w", err)
	}
	return ln, release, nil
}

// serve answers on all doors until they are shut.
func (d *doors) serve(group *errgroup.Group) {
	for _, door := range d.list {
		group.Go(func() error {
			if err := door.app.Listener(door.listener); err != nil && !errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("%s: %w", door.listener.Addr(), err)
			}
			return nil
		})
	}
}

// shutdown stops accepting and waits for what is running. A door that is not
// served yet does not know of the shutdown, hence the close.
func (d *doors) shutdown() {
	var wait sync.WaitGroup
	for _, door := range d.list {
		wait.Go(func() {
			_ = door.app.ShutdownWithTimeout(time.Hour)
			_ = door.listener.Close()
		})
	}
	wait.Wait()
}

// close closes what is still open.
func (d *doors) close() {
	for _, door := range d.list {
		_ = door.listener.Close()
	}
	d.release()
}

// certificates reads the certificate again when its files have changed.
type certificates struct {
	current func() *config.Config

	mu     sync.Mutex // guards what follows
	looked time.Time
	files  [2]certificateFile
	cert   *tls.Certificate
}

// certificateFile is a file as it was when it was read.
type certificateFile struct {
	path    string
	changed time.Time
	size    int64
}

// certificateEvery is how often the files are looked at.
const certificateEvery = 10 * time.Second

func (c *certificates) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cert != nil && time.Since(c.looked) < certificateEvery {
		return c.cert, nil
	}
	c.looked = time.Now()
	cfg := c.current()
	files := [2]certificateFile{{path: cfg.TLSCert}, {path: cfg.TLSKey}}
	for i, file := range files {
		if info, err := os.Stat(file.path); err == nil {
			files[i].changed, files[i].size = info.ModTime(), info.Size()
		}
	}
	if c.cert != nil && files == c.files {
		return c.cert, nil
	}
	cert, err := tls.LoadX509KeyPair(cfg.TLSCert, cfg.TLSKey)
	if err != nil {
		if c.cert != nil { // half replaced: the old pair is still a pair
			return c.cert, nil
		}
		return nil, fmt.Errorf("tls_cert and tls_key: %w", err)
	}
	c.cert, c.files = &cert, files
	return c.cert, nil
}
