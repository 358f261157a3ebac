package bolt_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/broker/bolt"
)

// childTasks are what a child can do other than publish forever.
func childTasks() map[string]func(path string) {
	return map[string]func(path string){"retry": childRetry, "full": childFull}
}

// childRetry publishes, and repeats what failed until it succeeds.
func childRetry(path string) {
	var b *bolt.Broker
	var err error
	for range 100 {
		if b, err = bolt.Open(path, nil); err == nil {
			break
		}
		fmt.Println("error", err)
	}
	for i := range 12 {
		for try := 0; try < 20 && !acknowledge(b, childStreams()[i%3], fmt.Sprint("id", i)); try++ {
			page, err := b.Read(context.Background(), childStreams()[i%3], broker.Query{Limit: 1000, Bytes: 1 << 20})
			for _, p := range page.Publications { // failed publications are not returned
				if p.Message.ID == fmt.Sprint("id", i) {
					fmt.Println("panic: a failed publication was read", err)
					os.Exit(3)
				}
			}
		}
	}
	_ = b.Close(context.Background())
}

// The disk refuses one call, or all calls from one on. Publish returns the error, and succeeds
// again once the disk works.
func TestDiskFails(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("no strace to make system calls fail")
	}
	if err := exec.Command(strace, "-qq", "-e", "inject=fsync:error=EIO", "true").Run(); err != nil {
		t.Skipf("strace is not permitted: %v", err)
	}
	for _, fault := range []string{"fdatasync:error=EIO", "fsync:error=EIO", "pwrite64:error=ENOSPC"} {
		for nth := 1; nth <= faults(); nth++ {
			for _, when := range []string{fmt.Sprint(nth), fmt.Sprintf("%d..%d", nth, nth+3)} {
				t.Run(fault+" "+when, func(t *testing.T) {
					path := filepath.Join(t.TempDir(), "streams.db")
					l := newLedger()
					trace := []string{strace, "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync,pwrite64"}
					trace = append(trace, "-e", "inject="+fault+":when="+when)
					_, wait := l.child(t, path, []string{tasksEnv + "=retry"}, trace...)
					require.NoError(t, wait())
					b := open(t, filepath.Dir(path), nil)
					l.require(t, b)
					for i := range 12 {
						require.NotZero(t, l.acked[childStreams()[i%3]][fmt.Sprint("id", i)], "id%d", i)
					}
					require.NoError(t, b.Close(t.Context()))
				})
			}
		}
	}
}

// fileLimit is the first limit of the size of childFull's file, in bytes.
const fileLimit = 12 << 20

// childFull publishes until the system refuses to enlarge the file, and again when the limit is
// lifted.
func childFull(path string) {
	b, err := bolt.Open(path, nil)
	lift := func() {}
	if err == nil {
		lift, err = limitFiles()
	}
	if err != nil {
		fmt.Println("open:", err)
		os.Exit(1)
	}
	big := func(id string) error {
		p := numbered("room/big", id)
		p.Message.Binary = make([]byte, 256<<10)
		_, err := b.Publish(context.Background(), p)
		return err
	}
	for i := 0; big(fmt.Sprint("big", i)) == nil; i++ {
		if i > 1000 {
			fmt.Println("open: no limit")
			os.Exit(1)
		}
	}
	fmt.Println("error full")
	if errors.Is(big("x"), broker.ErrClosed) {
		os.Exit(1)
	}
	lift()
	for i := range 12 {
		acknowledge(b, childStreams()[i%3], fmt.Sprint("id", i))
	}
	if err := b.Close(context.Background()); err != nil {
		os.Exit(1)
	}
}

// The disk becomes full, and later has space again.
func TestDiskFull(t *testing.T) {
	if !canLimitFiles {
		t.Skip("the size of files cannot be limited on this system")
	}
	path := filepath.Join(t.TempDir(), "streams.db")
	l := newLedger()
	_, wait := l.child(t, path, []string{tasksEnv + "=full"})
	require.NoError(t, wait())
	require.Equal(t, 1, l.errors)
	require.Len(t, l.acked["user/alice"], 4)
	b := open(t, filepath.Dir(path), nil)
	l.require(t, b)
	page, err := b.Read(t.Context(), "room/big", broker.Query{Limit: 1000, Bytes: 1 << 30})
	require.NoError(t, err)
	require.NotEmpty(t, page.Publications)
	require.Zero(t, page.Floor)
	require.NoError(t, b.Close(t.Context()))
}

// After a power cut only synced data is certain to be on disk: the file system is stopped at once,
// with unwritten data.
func TestPowerCut(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can mount a disk and stop it")
	}
	dir := t.TempDir()
	image, mount := filepath.Join(dir, "disk"), filepath.Join(dir, "mnt")
	require.NoError(t, os.Mkdir(mount, 0o700))
	require.NoError(t, os.WriteFile(image, nil, 0o600))
	require.NoError(t, os.Truncate(image, 256<<20))
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", image).CombinedOutput(); err != nil {
		t.Skipf("no ext4 can be made: %v %s", err, out)
	}
	if out, err := exec.Command("mount", "-o", "loop", image, mount).CombinedOutput(); err != nil {
		t.Skipf("no disk can be mounted: %v %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", mount).Run() })
	l := newLedger()
	for round := range cuts() {
		cut(t, l, mount, round)
		require.NoError(t, exec.Command("umount", mount).Run())
		out, err := exec.Command("mount", "-o", "loop", image, mount).CombinedOutput()
		require.NoError(t, err, "%s", out)
		b := open(t, mount, nil)
		l.require(t, b)
		require.NoError(t, b.Close(t.Context()))
	}
	t.Logf("%d cuts, %d acknowledgements", cuts(), l.count())
}

// cut lets a child publish, cuts the power, and waits for the end of the child.
func cut(t *testing.T, l *ledger, mount string, round int) {
	before := l.count()
	cmd, wait := l.child(t, filepath.Join(mount, "streams.db"), []string{fmt.Sprint(roundEnv, "=", round)})
	for end := time.Now().Add(20 * time.Second); l.count() < before+50*(round%3+1); time.Sleep(time.Millisecond) {
		require.True(t, time.Now().Before(end), "the child does not publish")
	}
	d, err := os.Open(mount)
	require.NoError(t, err)
	err = shutDown(d)
	require.NoError(t, d.Close())
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.ENOTTY) {
		_ = cmd.Process.Kill()
		_ = wait()
		t.Skip("this file system cannot be stopped")
	}
	require.NoError(t, err)
	acknowledged := l.count()
	time.Sleep(20 * time.Millisecond) // the child continues, and fails
	require.NoError(t, cmd.Process.Kill())
	require.True(t, strings.Contains(wait().Error(), "killed"))
	t.Logf("round %d: %d acknowledged, %d of them since", round, l.count(), l.count()-acknowledged)
}
