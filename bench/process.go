//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a program under test, or the provider.
type process struct {
	name    string
	cmd     *exec.Cmd
	address string
	log     string        // the file that takes its standard error
	ended   chan struct{} // closed when it has ended
}

// startProcess starts a program on a core. It serves on address soon, and writes
// its log to a file.
func startProcess(name string, core int, address, log string, args ...string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p := &process{name: name, address: address, log: log, ended: make(chan struct{})}
	p.cmd = exec.Command(args[0], args[1:]...)
	p.cmd.Stderr = out
	// They end with this program, whatever way that ends. The thread which starts
	// them lives as long as it.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := onCore(core, p.cmd.Start); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // that it was ended by a signal is no news
	}()
	return p, nil
}

// stop ends the process and waits for it.
func (p *process) stop() error {
	if p == nil {
		return nil
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
		return nil
	case <-time.After(10 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.ended
		return fmt.Errorf("%s did not stop within 10 s and was killed: %s", p.name, p.lastWords())
	}
}

// lastWords is the end of its log.
func (p *process) lastWords() string {
	text, _ := os.ReadFile(p.log)
	return string(text[max(0, len(text)-500):])
}

// await sends request until it is answered with 200. It tries each half
// millisecond: the time until then is one of the figures.
func (p *process) await(ctx context.Context, request []byte) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	tick := time.NewTicker(500 * time.Microsecond)
	defer tick.Stop()
	c := newClient(p.address)
	defer c.close()
	for {
		err := c.do(request)
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s ended (%v): %s", p.name, p.cmd.ProcessState, p.lastWords())
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-tick.C:
		}
	}
}

// family is the process and all its descendants.
func (p *process) family() []int {
	all := []int{p.cmd.Process.Pid}
	for i := 0; i < len(all); i++ {
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", all[i]))
		for _, f := range files {
			text, _ := os.ReadFile(f)
			for _, field := range strings.Fields(string(text)) {
				if id, err := strconv.Atoi(field); err == nil {
					all = append(all, id)
				}
			}
		}
	}
	return all
}

// tick is the unit of CPU time in /proc: USER_HZ is 100 wherever Go runs.
const tick = 10 * time.Millisecond

// cpu is the CPU time that the family has used so far, in user and kernel mode.
func (p *process) cpu() (total time.Duration, err error) {
	for _, id := range p.family() {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", id))
		if err != nil {
			return 0, err
		}
		// The name in parentheses may hold anything; fields 14 and 15 are counted from it.
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if len(fields) < 13 {
			return 0, fmt.Errorf("/proc/%d/stat: %q", id, text)
		}
		for _, field := range fields[11:13] {
			n, err := strconv.ParseInt(field, 10, 64)
			if err != nil {
				return 0, err
			}
			total += time.Duration(n) * tick
		}
	}
	return total, nil
}

// memory is what the family occupies, in bytes.
type memory struct {
	resident  float64 // now
	anonymous float64 // of that, what is not a part of a file
	peak      float64 // the most that was resident
}

func (p *process) memory() (m memory, err error) {
	for _, id := range p.family() {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", id))
		if err != nil {
			return m, err
		}
		for line := range strings.Lines(string(text)) {
			name, value, _ := strings.Cut(line, ":")
			to := map[string]*float64{"VmRSS": &m.resident, "RssAnon": &m.anonymous, "VmHWM": &m.peak}[name]
			if to == nil {
				continue
			}
			var kilobytes float64
			if _, err := fmt.Sscanf(value, "%f kB", &kilobytes); err != nil {
				return m, fmt.Errorf("/proc/%d/status: %q", id, line)
			}
			*to += kilobytes * 1024
		}
	}
	return m, nil
}

// freeAddress is an address on loopback that nobody listened on a moment ago.
func freeAddress() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}
