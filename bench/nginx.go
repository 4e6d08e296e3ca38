//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// findNginx is where nginx is; it is installed when it is missing and this is
// root on a system with apt-get.
func findNginx() (string, error) {
	if path, err := exec.LookPath("nginx"); err == nil {
		return path, nil
	}
	apt, err := exec.LookPath("apt-get")
	if err != nil || os.Getuid() != 0 {
		return "", errors.New("it is not installed, and only root can install it, with apt-get")
	}
	if out, err := exec.Command(apt, "install", "-y", "--no-install-recommends", "nginx-light").CombinedOutput(); err != nil {
		return "", fmt.Errorf("apt-get install nginx-light: %w: %.200s", err, out)
	}
	return exec.LookPath("nginx")
}

// nginxConfig is nginx at its fastest: keep-alive on both sides, no log, request
// bodies passed on as they come. Streams are not buffered because the provider's
// answer says X-Accel-Buffering: no.
const nginxConfig = `daemon off;
worker_processes 1;
worker_rlimit_nofile 16384;
pid %[1]s/nginx.pid;
error_log %[1]s/nginx.log warn;
events { worker_connections 16000; }
http {
	access_log off;
	keepalive_requests 1000000000;
	client_max_body_size 64m;
	client_body_buffer_size 128k;
	client_body_temp_path %[1]s/nginx-body;
	proxy_temp_path %[1]s/nginx-proxy;
	fastcgi_temp_path %[1]s/nginx-fastcgi;
	uwsgi_temp_path %[1]s/nginx-uwsgi;
	scgi_temp_path %[1]s/nginx-scgi;
	upstream provider {
		server %[3]s;
		keepalive 512;
		keepalive_requests 1000000000;
	}
	server {
		listen %[2]s backlog=4096;
		location / {
			proxy_pass http://provider;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_set_header Authorization "Bearer %[4]s";
			proxy_request_buffering off;
		}
	}
}
`

// writeNginxConfig writes the configuration of an unprivileged nginx.
func writeNginxConfig(dir, address, provider string) (string, error) {
	file := filepath.Join(dir, "nginx.conf")
	return file, os.WriteFile(file, []byte(fmt.Sprintf(nginxConfig, dir, address, provider, providerKey)), 0o600)
}
