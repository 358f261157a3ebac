//go:build linux

package load

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/realtime-go/realtime/bench/serve"
)

// process is a server under test. Its standard input is a pipe from this process, and it exits when
// the pipe is closed: so it cannot outlive this process.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	hello serve.Hello
}

// startServer starts a server for a workload, and waits for its first line.
func startServer(command []string, w Workload) (*process, error) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stderr = os.Stderr
	cmd.Env = environment(w)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, stdin: stdin}
	mute := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
	defer mute.Stop()
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &p.hello)
	}
	if err != nil {
		p.stop()
		p.wait()
		return nil, fmt.Errorf("server %q prints no address: %w", command, err)
	}
	return p, nil
}

// environment returns the environment of the server.
func environment(w Workload) []string {
	env := os.Environ()
	if w.Deflate {
		env = append(env, serve.DeflateEnv+"=1")
	}
	if w.TLS {
		env = append(env, serve.TLSEnv+"=1")
	}
	if w.Procs > 0 {
		env = append(env, fmt.Sprintf("GOMAXPROCS=%d", w.Procs))
	}
	return env
}

// stop asks the process to exit. It may still write its profile.
func (p *process) stop() { _ = p.stdin.Close() }

// wait waits for the process to exit, and kills it after five seconds. It must be called once,
// after stop.
func (p *process) wait() {
	late := time.AfterFunc(5*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	_ = p.cmd.Wait()
}

// cpu returns the processor time that the process has used, from its clock in Linux. The id of that
// clock is computed as in the C library.
func (p *process) cpu() time.Duration {
	const cpuclockSched = 2
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^p.cmd.Process.Pid<<3|cpuclockSched), &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// rss returns the resident memory of the process in bytes.
func (p *process) rss() int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(status) {
		if v, ok := strings.CutPrefix(string(line), "VmRSS:"); ok {
			kb, _ := strconv.Atoi(strings.Fields(v)[0])
			return kb << 10
		}
	}
	return 0
}
