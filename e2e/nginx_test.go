package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// startNginx puts nginx in front of an address, with its default settings for
// proxies (HTTP/1.0 towards TokenHub, buffering on), and returns its URL.
func startNginx(t *testing.T, upstream string) string {
	t.Helper()
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		t.Skip("nginx is not installed: apt-get install nginx-light, and this runs")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	dir := t.TempDir()
	conf := fmt.Sprintf(`daemon off;
master_process off;
pid %[1]s/pid;
error_log %[1]s/error.log;
events { worker_connections 100; }
http {
  access_log off;
  client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  server { listen %[2]s; location / { proxy_pass %[3]s; } }
}
`, dir, address, upstream)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(nginx, "-p", dir, "-c", file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	late := time.After(10 * time.Second)
	for {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return "http://" + address
		}
		select {
		case <-late:
			log, _ := os.ReadFile(filepath.Join(dir, "error.log"))
			t.Fatalf("nginx does not listen: %s", log)
		default:
		}
	}
}

// Behind nginx as it comes, events arrive one by one, and a caller who leaves
// ends the provider's work.
func TestBehindNginx(t *testing.T) {
	next, gone := make(chan string), make(chan struct{})
	p := startProvider(t, func(w http.ResponseWriter, r *http.Request, _ []byte) {
		w.Header().Set("Content-Type", "text/event-stream")
		for {
			select {
			case event := <-next:
				fmt.Fprintf(w, "data: %s\n\n", event)
				w.(http.Flusher).Flush()
			case <-r.Context().Done():
				close(gone)
				return
			}
		}
	})
	h := startHub(t, "[log]\nlevel = \"error\"\n"+p.config())
	front := startNginx(t, h.url)
	key := h.key(t, "behind")
	go func() { next <- "0" }()
	req, err := http.NewRequestWithContext(t.Context(), "POST", front+"/v1/chat/completions", strings.NewReader(`{"stream":true,`+plainChat[1:]))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(resp.Body)
	for i := range 3 {
		if i > 0 {
			next <- fmt.Sprint(i)
		}
		if line, err := lines.ReadString('\n'); err != nil || line != fmt.Sprintf("data: %d\n", i) {
			t.Fatalf("%q %v", line, err)
		}
		if _, err := lines.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	left := time.Now()
	resp.Body.Close()
	select {
	case <-gone:
		if d := time.Since(left); d > 500*time.Millisecond {
			t.Errorf("the provider saw it after %v", d)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the provider never saw that the caller left")
	}
	// And a plain answer comes whole.
	if resp, err = http.Get(front + "/healthz"); err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || string(text) != `{"status":"ok"}` {
		t.Errorf("%q %v", text, err)
	}
}
