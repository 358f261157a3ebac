package bolt_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/broker/bolt"
)

// pageBytes is the page size of a file that is made on this machine.
var pageBytes = os.Getpagesize()

// manyPages writes a store with many pages. It returns the used part of its file, and its contents.
func manyPages(t *testing.T) (image []byte, want map[string][]string) {
	t.Helper()
	dir := t.TempDir()
	b := open(t, dir, &bolt.Options{LossWindow: -1})
	want = map[string][]string{}
	for i := range 1500 {
		stream := fmt.Sprint("room/", i%15)
		if i%5 == 0 {
			stream = fmt.Sprint("user/", i%7)
		}
		content := fmt.Sprint("content ", i, " ", string(bytes.Repeat([]byte("x"), i%300)))
		if i == 700 {
			content += string(bytes.Repeat([]byte("y"), 20_000)) // several pages
		}
		at := publish(t, b, text(stream, fmt.Sprint("id", i), content)).Position
		if i%3 == 0 {
			require.NoError(t, b.Ack(t.Context(), stream, fmt.Sprint("device", i%40), at))
		}
		want[stream] = append(want[stream], content)
		want[stream] = want[stream][max(0, len(want[stream])-100):]
	}
	require.NoError(t, b.Close(t.Context()))
	b = open(t, dir, nil) // the last stream that was made
	publish(t, b, text("room/0", "last", "last"))
	want["room/0"] = append(want["room/0"], "last")[max(0, len(want["room/0"])-99):]
	require.NoError(t, b.Close(t.Context()))
	image, err := os.ReadFile(filepath.Join(dir, "streams.db"))
	require.NoError(t, err)
	high := uint64(0)
	for _, meta := range [][]byte{image[16:], image[pageBytes+16:]} {
		high = max(high, binary.NativeEndian.Uint64(meta[40:]))
	}
	require.Greater(t, high, uint64(150))
	return image[:int(high)*pageBytes], want
}

// within requires that f returns soon, whatever the file contains.
func within(t *testing.T, what string, f func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	select {
	case err := <-done:
		require.NoError(t, err, what)
	case <-time.After(60 * time.Second):
		require.Fail(t, what+" hangs")
	}
}

// openDamaged opens a damaged file, reads all streams and uses them. It returns the streams that
// have lost publications, and false if the file is refused.
func openDamaged(t *testing.T, path string, want map[string][]string) (hurt []string, opened bool) {
	t.Helper()
	told := 0
	b, err := bolt.Open(path, &bolt.Options{
		Logger: silent(), OnDamage: func(bolt.Damage) { told++ }, LossWindow: -1, // faster
	})
	if err != nil {
		named := errors.Is(err, bolt.ErrFormat) || errors.Is(err, bolt.ErrDamaged)
		require.True(t, named, "%v", err)
		return nil, false
	}
	for stream, all := range want {
		within(t, "Read", func(ctx context.Context) error {
			page, err := b.Read(ctx, stream, broker.Query{Limit: 1000, Bytes: 16 << 20})
			got := contents(page)
			if err != nil || slices.Equal(all, got) {
				return err
			}
			hurt = append(hurt, stream)
			newest := all[len(all)-len(got):]
			require.Equal(t, newest, append([]string{}, got...), "the newest without a gap")
			require.True(t, page.Top.Epoch == "" || page.Why != "")
			return nil
		})
	}
	for stream := range want {
		within(t, "use", func(ctx context.Context) error {
			p := text(stream, "", "new")
			p.Keep.Messages = 3
			_, err := b.Publish(ctx, p)
			_, cursorErr := b.Cursor(ctx, stream, "device3")
			return errors.Join(err, cursorErr)
		})
		page, err := b.Read(t.Context(), stream, broker.Query{Backwards: true, Limit: 1})
		require.NoError(t, err)
		require.Equal(t, []string{"new"}, contents(page))
		within(t, "forget", func(ctx context.Context) error {
			p := text(stream, "", "gone")
			p.Keep.Age = 1
			_, err := b.Publish(ctx, p)
			return err
		})
	}
	require.True(t, len(hurt) == 0 || told > 0, "OnDamage was not called")
	within(t, "Close", b.Close)
	return hurt, true
}

// This flips one bit anywhere in the file, also in the structure of pages. Only the stream that has
// lost publications is affected, and nothing hangs.
func TestBitFlipsAnywhere(t *testing.T) {
	image, want := manyPages(t)
	path := filepath.Join(t.TempDir(), "streams.db")
	refused, lost := 0, 0
	for i := range anywhere() {
		bit := rand.N(8 * len(image))
		if i%2 == 0 { // a bit in the head of a page
			bit = 8*pageBytes*rand.N(len(image)/pageBytes) + rand.N(8*128)
		}
		broken := bytes.Clone(image)
		broken[bit/8] ^= 1 << (bit % 8)
		require.NoError(t, os.WriteFile(path, broken, 0o600))
		hurt, opened := openDamaged(t, path, want)
		page, at := bit/8/pageBytes, bit/8%pageBytes
		where := fmt.Sprintf("bit %d of page %d, byte %d", bit%8, page, at)
		require.LessOrEqual(t, len(hurt), 1, where)
		head := binary.NativeEndian.Uint64(image[pageBytes*page:]) == uint64(page)
		if head && page > 1 && at < 16 { // a page without a head of its own may continue another one
			require.Empty(t, hurt, where)
		}
		lost += len(hurt)
		if !opened {
			refused++
		}
	}
	t.Logf("%d bits of %d pages: %d streams lost publications, %d files were refused",
		anywhere(), len(image)/pageBytes, lost, refused)
	require.LessOrEqual(t, refused, 1+anywhere()/1000)
}

// For a file with a damaged structure Open writes a new file, and keeps the old one beside it.
func TestSalvage(t *testing.T) {
	image, want := manyPages(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "streams.db")
	look := func() (damaged uint64) {
		b := open(t, dir, &bolt.Options{Logger: silent()})
		for stream, all := range want {
			require.Equal(t, all, contents(read(t, b, stream)), stream)
		}
		damaged = b.Stats().Damaged
		require.NoError(t, b.Close(t.Context()))
		return damaged
	}
	var broken []byte
	for page := 2; ; page++ { // up to the first leaf in use
		if binary.NativeEndian.Uint16(image[pageBytes*page+8:]) != 2 {
			continue
		}
		broken = bytes.Clone(image)
		broken[pageBytes*page+11] ^= 0x80 // the number of its entries
		require.NoError(t, os.WriteFile(path, broken, 0o600))
		if look() > 0 {
			break
		}
	}
	require.Zero(t, look(), "the new file is intact")
	aside, err := os.ReadFile(path + ".damaged")
	require.NoError(t, err)
	require.True(t, bytes.Equal(broken, aside))
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, files, 2)
}

// Open recovers a truncated file or refuses it, and does not hang.
func TestTruncated(t *testing.T) {
	image, want := manyPages(t)
	path := filepath.Join(t.TempDir(), "streams.db")
	refused := 0
	for range truncations() {
		require.NoError(t, os.WriteFile(path, image[:rand.N(len(image))], 0o600))
		if _, opened := openDamaged(t, path, want); !opened {
			refused++
		}
	}
	t.Logf("%d truncated files, %d were refused", truncations(), refused)
}

// Pages are zeroed, replaced by others, or have many flipped bits. Open recovers the file or
// refuses it. It does not hang, and nothing is delivered that was not sent.
func TestDamagedPages(t *testing.T) {
	image, want := manyPages(t)
	path := filepath.Join(t.TempDir(), "streams.db")
	high := len(image) / pageBytes
	refused := 0
	for range truncations() {
		broken := bytes.Clone(image)
		for range 1 + rand.N(4) {
			page, other := pageBytes*rand.N(high), pageBytes*rand.N(high)
			switch rand.N(4) {
			case 0:
				copy(broken[page:page+pageBytes], make([]byte, pageBytes))
			case 1:
				copy(broken[page:page+pageBytes], image[other:other+pageBytes])
			case 2:
				copy(broken[page:page+pageBytes], image[other:other+pageBytes])
				binary.NativeEndian.PutUint64(broken[page:], uint64(page/pageBytes))
			default:
				for range 20 {
					broken[page+rand.N(pageBytes)] ^= 1 << rand.N(8)
				}
			}
		}
		require.NoError(t, os.WriteFile(path, broken, 0o600))
		if _, opened := openDamaged(t, path, want); !opened {
			refused++
		}
	}
	t.Logf("%d damaged files, %d were refused", truncations(), refused)
}
