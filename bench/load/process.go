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

// hello is what a server says when it listens, see package serve.
type hello struct {
	Addr     string            `json:"addr"`
	Dialect  string            `json:"dialect"`
	Versions map[string]string `json:"versions"`
}

// process is a server under test. Its standard input is a pipe from here, and it ends with
// that: so it cannot outlive this process.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	hello hello
}

// startServer runs a command line and waits for its first line. deflate asks the server to
// compress.
func startServer(command []string, deflate bool) (*process, error) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stderr = os.Stderr
	if deflate {
		cmd.Env = append(os.Environ(), serve.DeflateEnv+"=1")
	}
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
		return nil, fmt.Errorf("server %q does not say where it is: %w", command, err)
	}
	return p, nil
}

// stop asks the process to end, and gives it time to write its profile.
func (p *process) stop() { _ = p.stdin.Close() }

// wait is to be called after stop, once.
func (p *process) wait() {
	late := time.AfterFunc(5*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	_ = p.cmd.Wait()
}

// cpu returns the processor time that the process has used, by the clock that Linux keeps
// for each process; the number of that clock is made as the C library makes it.
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
