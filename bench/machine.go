//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// cores are the cores that this process may use: the first for the load and the
// provider, the last for what is measured. They are the same on one core.
func cores() (load, tested int, err error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return 0, 0, fmt.Errorf("which cores there are: %w", err)
	}
	load = -1
	for i := range len(set) * 64 {
		if !set.IsSet(i) {
			continue
		}
		if load < 0 {
			load = i
		}
		tested = i
	}
	return load, tested, nil
}

// pinSelf puts all threads of this process on a core; new ones inherit it.
func pinSelf(core int) error {
	runtime.GOMAXPROCS(1)
	var set unix.CPUSet
	set.Set(core)
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			return err
		}
		if err := unix.SchedSetaffinity(id, &set); err != nil {
			return fmt.Errorf("pin to core %d: %w", core, err)
		}
	}
	return nil
}

// onCore calls start on a thread of that core; the processes which it starts
// inherit the core.
func onCore(core int, start func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return err
	}
	set.Set(core)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("pin to core %d: %w", core, err)
	}
	return errors.Join(start(), unix.SchedSetaffinity(0, &before))
}

// loadAverage is the machine's over the last minute, 0 where it is not known.
func loadAverage() float64 {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), " ")
	load, _ := strconv.ParseFloat(first, 64)
	return load
}

// machine describes what the run ran on, in a sentence.
func machine(ctx context.Context, nginx string) string {
	var name unix.Utsname
	kernel := "Linux"
	if unix.Uname(&name) == nil {
		kernel += " " + unix.ByteSliceToString(name.Release[:])
	}
	commit := "unknown"
	if out, err := exec.CommandContext(ctx, "git", "describe", "--tags", "--always", "--dirty").Output(); err == nil {
		commit = string(bytes.TrimSpace(out))
	}
	text := fmt.Sprintf("%s, %d cores, %s, %s/%s, TokenHub %s, %s", cpuModel(), runtime.NumCPU(), kernel, runtime.GOOS, runtime.GOARCH, commit, runtime.Version())
	if nginx != "" {
		// -v writes to standard error.
		if out, err := exec.CommandContext(ctx, nginx, "-v").CombinedOutput(); err == nil {
			_, version, _ := strings.Cut(string(bytes.TrimSpace(out)), ": ")
			text += ", " + version
		}
	}
	return text
}

// cpuModel is the processor's name, or what else the kernel tells of it.
func cpuModel() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "unknown processor"
	}
	defer f.Close()
	fields := map[string]string{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, value, ok := strings.Cut(lines.Text(), ":")
		if name = strings.TrimSpace(name); ok && fields[name] == "" {
			fields[name] = strings.TrimSpace(value)
		}
	}
	if model := fields["model name"]; model != "" && model != "unknown" {
		return model
	}
	return fmt.Sprintf("%s family %s model %s (%s MHz)", fields["vendor_id"], fields["cpu family"], fields["model"], fields["cpu MHz"])
}
