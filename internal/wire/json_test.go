package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/wiretest"
)

var names = []string{"content", "target"}

func TestMembers(t *testing.T) {
	for _, test := range []struct {
		text            string
		content, target string // raw
		err             error
	}{
		{`{}`, ``, ``, nil},
		{`{"content":"a","target":"b"}`, `"a"`, `"b"`, nil},
		{" {\t\"target\" : 12.5e3 ,\n\"content\":{\"target\":[1,\"}\"]}\r} ", `{"target":[1,"}"]}`, `12.5e3`, nil},
		{`{"x":[],"y":{},"z":null,"content":true}`, `true`, ``, nil},
		{`{"Content":1,"content ":2}`, ``, ``, nil},
		{`{"\u0063ontent":1}`, `1`, ``, nil},
		{`{"content":1,"content":2}`, ``, ``, ErrDuplicate},
		{`{"content":1,"\u0063ontent":2}`, ``, ``, ErrDuplicate},
		{`{"x":1,"x":2}`, ``, ``, nil},
		{`{"a":"\"{","content":"\\"}`, `"\\"`, ``, nil},
		{`[]`, ``, ``, ErrNotObject},
		{``, ``, ``, ErrNotObject},
		{`{"content":1}}`, ``, ``, ErrNotObject},
		{`{"x":` + strings.Repeat("[", 63) + strings.Repeat("]", 63) + `}`, ``, ``, nil},
		{`{"x":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`, ``, ``, ErrDepth},
	} {
		var values [2][]byte
		require.Equal(t, test.err, Members([]byte(test.text), names, values[:]), test.text)
		if test.err == nil {
			require.Equal(t, test.content, string(values[0]), test.text)
			require.Equal(t, test.target, string(values[1]), test.text)
		}
	}
}

func TestMembersAllocatesNothing(t *testing.T) {
	deep := strings.Repeat("[", maxDepth-1) + strings.Repeat("]", maxDepth-1)
	p := []byte(`{"x":[{"a":"\u00e9"}],"content":` + deep + `}`)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		var values [2][]byte
		if Members(p, names, values[:]) != nil || values[0] == nil {
			t.Error("no content")
		}
	}))
}

func TestJSONString(t *testing.T) {
	for raw, want := range map[string]string{
		`"a"`: "a", `""`: "", `"\n\"\\\u00e9"`: "\n\"\\é", `"\ud83d\ude00"`: "😀",
		`"\ufffd"`: "\uFFFD", `"\\ud800"`: `\ud800`, "\"\uFFFD\\n\"": "\uFFFD\n",
	} {
		got, ok := JSONString([]byte(raw))
		require.True(t, ok, raw)
		require.Equal(t, want, got)
	}
	for _, raw := range []string{
		``, `1`, `null`, `{}`, `"\ud800"`, `"\udc00"`, `"\ud800\ud800"`, `"\ud800x"`, `"\ud83d\n"`,
	} {
		_, ok := JSONString([]byte(raw))
		require.False(t, ok, raw)
	}
}

func TestAppendString(t *testing.T) {
	for s, want := range map[string]string{
		"":                 `""`,
		"<b>&":             `"<b>&"`,
		"ü<b>&":            `"ü<b>&"`,
		"a\"\\\n":          `"a\"\\\n"`,
		"\xff\u2028":       `"\ufffd\u2028"`,
		"\uFFFD\u2027\x7f": "\"\uFFFD\u2027\x7f\"",
		"12345678\x1f":     `"12345678\u001f"`,
	} {
		require.Equal(t, "x"+want, string(AppendString([]byte("x"), s)))
		require.Equal(t, "x"+want, string(AppendString([]byte("x"), []byte(s))))
	}
	for _, s := range []string{"", "The quick brown fox jumps over the lazy dog", "Zwölf Boxkämpfer"} {
		buf := make([]byte, 0, 100)
		require.Zero(t, testing.AllocsPerRun(100, func() { AppendString(buf, s) }), s)
	}
}

// fuzzDecoder checks what is true for the decoder of every protocol, and then calls check.
func fuzzDecoder(
	f *testing.F, decode func([]byte) Command, seeds []string, check func(t *testing.T, p []byte, cmd Command),
) {
	for _, seed := range seeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		if !utf8.Valid(p) {
			return // the reader refuses it
		}
		before := string(p)
		cmd := decode(p)
		require.Equal(t, before, string(p), "the input is not changed")
		require.Equal(t, before == "ping", cmd.Kind == CmdPing)
		check(t, p, cmd)
	})
}

// FuzzDecodePlain compares the decoder with encoding/json.
func FuzzDecodePlain(f *testing.F) {
	seeds := []string{
		"ping", `{"content":"hi","target":"all"}`, `{"content":"\ud800","target":""}`,
		`{"a":[{"b":"c"}],"target":"room","content":"\\"}`, `{"content":1}`, `{`, "\xff", ` {"target" : "x"} `,
		`{"content":"a","target":"b","content":"c"}`, `{"\u0063ontent":"\ud83d\ude00","target":"x"}`,
		`{"Content":"a","target":"b"}`, ` "ping"`, `{"content":"\\\ud83d\\\ude00","target":"\udc00"}`,
		`{"x":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `,"content":"a","target":"b"}`,
	}
	fuzzDecoder(f, decodePlain, seeds, func(t *testing.T, p []byte, cmd Command) {
		members := wiretest.Members(p)
		content, ok := wiretest.String(members["content"])
		target, ok2 := wiretest.String(members["target"])
		require.Equal(t, ok && ok2, cmd.Kind == CmdChat)
		if cmd.Kind == CmdChat {
			require.Equal(t, content, string(cmd.Text))
			require.Equal(t, target, cmd.Target)
		}
	})
}

// FuzzAppendPlain checks that every string in a frame results in valid JSON.
func FuzzAppendPlain(f *testing.F) {
	f.Add("chat", "alice", "text")
	f.Add("a\"b", "\x00", "\xff\u2028")
	f.Fuzz(func(t *testing.T, typ, sender, text string) {
		m := broker.Message{
			Type: typ, Sender: sender, Content: ChatContent(sender, text, time.Now()),
		}
		var got struct {
			Type    string  `json:"message_type"`
			Sender  *string `json:"sender_id"`
			Content struct {
				Content string `json:"content"`
			} `json:"content"`
		}
		frame := appendPlain(nil, &m)
		require.True(t, utf8.Valid(frame))
		require.NoError(t, json.Unmarshal(frame, &got))
		quoted, err := json.Marshal(text)
		require.NoError(t, err)
		var want string
		require.NoError(t, json.Unmarshal(quoted, &want))
		require.Equal(t, want, got.Content.Content)
		require.Equal(t, sender == "", got.Sender == nil)
	})
}

// FuzzAppendTime compares both times of a message with those of package time, for years that JSON can
// represent.
func FuzzAppendTime(f *testing.F) {
	for _, ms := range []int64{1, 0, -1, -999, -1000, -1001, 1764459600_123, 1764459600_100, 1764459600_020} {
		f.Add(ms)
	}
	f.Fuzz(func(t *testing.T, ms int64) {
		at := time.UnixMilli(ms)
		if at.IsZero() { // which means now
			return
		}
		m := broker.Message{Time: at}
		name := `,"timestamp":`
		require.Equal(t, name+strconv.FormatInt(at.Unix(), 10), string(appendTime(nil, &m)))
		got := strings.TrimPrefix(string(appendMilliseconds(nil, &m)), name)
		require.True(t, json.Valid([]byte(got)), got)
		if ms%1000 == 0 {
			require.NotContains(t, got, ".")
		}
		want := new(big.Rat).SetFrac64(ms, 1000)
		seconds, ok := new(big.Rat).SetString(got)
		require.True(t, ok, got)
		require.Zero(t, want.Cmp(seconds), "%s for %s", got, want)
		m.Time = at.Add(999 * time.Microsecond)
		require.Equal(t, name+got, string(appendMilliseconds(nil, &m)), "cut, not rounded")
	})
}

// FuzzDecodeV1 compares the decoder with encoding/json.
func FuzzDecodeV1(f *testing.F) {
	seeds := []string{
		"ping", `{"type":"join","id":1,"room":"lobby"}`, `{"type":"send","id":"a","all":true,"content":{"x":[1,2]}}`,
		`{"type":"send","user":"bob","content":"\ud83d\ude00","message_type":"m"}`, `{"id":-1.5e3}`, `{"id":null}`,
		`{"type":"refresh","token":"x","token":"y"}`, `{"all":false,"conn":"c","server":true}`, `[]`, `{"type":1}`, `{"type":"\ud800"}`,
		`{"type":"send","content":{"\ud800":["\\ud800","\ud83d\ude00\udc00"]}}`,
	}
	decode := func(p []byte) Command { return DecodeV1(sendqueue.OpText, p) }
	fuzzDecoder(f, decode, seeds, func(t *testing.T, p []byte, cmd Command) {
		if cmd.Kind == CmdPing {
			return
		}
		r := cmd.Req
		requireAnswer(t, r)
		want, ok := naiveRequest(p)
		require.Equal(t, ok, r.Wrong == nil, "%v", r.Wrong)
		if ok {
			require.Equal(t, want, *r)
		}
	})
}

// requireAnswer checks that the answer to an invalid request is valid JSON.
func requireAnswer(t *testing.T, r *Request) {
	var e *Error
	if r.Wrong != nil {
		e = &Error{Code: CodeBadRequest, Message: r.Wrong.Error()}
	}
	p := Reply(r.ID, nil, e).Payload()
	require.True(t, json.Valid(p), "%s", p)
}

// FuzzDecodeBinary compares the decoder with encoding/binary and encoding/json.
func FuzzDecodeBinary(f *testing.F) {
	header := `{"type":"send","id":1,"room":"lobby"}`
	seeds := []string{
		"", "\x00", "\x80", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "\x02{}", "\x03{}", "\x01\xff",
		string(rune(len(header))) + header + "\x00\xff", string(rune(len(header))) + header,
		"\x19" + `{"type":"reply","id":"1"}` + "x", "\x0f" + `{"type":"call"}`, "\x10" + `{"type":"error"}`,
		"\x16" + `{"type":"join","id":1}` + "x", "\x1b" + `{"type":"send","content":1}`,
	}
	for _, seed := range seeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		before := string(p)
		cmd := DecodeV1(sendqueue.OpBinary, p)
		require.Equal(t, before, string(p), "the input is not changed")
		r := cmd.Req
		require.Equal(t, r.Wrong == nil && r.Name == "reply", cmd.Kind == CmdAnswer)
		requireAnswer(t, r)
		in := bytes.NewReader(p)
		size, err := binary.ReadUvarint(in)
		rest := p[len(p)-in.Len():]
		if err != nil || size > uint64(len(rest)) {
			require.Error(t, r.Wrong)
			return
		}
		want, ok := naiveRequest(rest[:size])
		ok = ok && utf8.Valid(rest[:size]) && want.Content == nil &&
			slices.Contains([]string{"send", "call", "reply"}, want.Name)
		require.Equal(t, ok, r.Wrong == nil, "%v", r.Wrong)
		if ok {
			want.Binary = rest[size:]
			require.Equal(t, want, *r)
		}
	})
}

// naiveRequest decodes a request with encoding/json.
func naiveRequest(p []byte) (r Request, ok bool) {
	members := wiretest.Members(p)
	for _, key := range requestKeys {
		if len(members[key]) > 1 {
			return r, false
		}
	}
	for key, s := range map[string]*string{
		"type": &r.Name, "room": &r.Room, "user": &r.User, "conn": &r.Conn, "message_type": &r.Typ,
		"message_id": &r.MessageID, "method": &r.Method, "token": &r.Token,
	} {
		if members[key] == nil {
			continue
		}
		if *s, ok = wiretest.String(members[key]); !ok {
			return r, false
		}
	}
	if id := members["id"]; id != nil {
		var number json.Number
		var text string
		if len(id[0]) > MaxID || json.Unmarshal(id[0], &number) != nil && json.Unmarshal(id[0], &text) != nil ||
			string(id[0]) == "null" {
			return r, false
		}
		r.ID = id[0]
	}
	for key, b := range map[string]*bool{"all": &r.All, "server": &r.Server} {
		m := members[key]
		if m != nil && (json.Unmarshal(m[0], b) != nil || string(m[0]) == "null") {
			return r, false
		}
	}
	if content := members["content"]; content != nil {
		r.Content = content[0]
	}
	return r, members["type"] != nil && !naiveHalf(r.Content)
}

// naiveHalf reports whether raw has half of a surrogate pair: it removes complete pairs and other
// escapes, and looks for \ud8.. to \udf.. in the rest.
func naiveHalf(raw []byte) bool {
	raw = regexp.MustCompile(`\\[^u]`).ReplaceAll(raw, []byte("."))
	raw = regexp.MustCompile(`(?i)\\ud[89ab]..\\ud[c-f]..`).ReplaceAll(raw, []byte("."))
	return regexp.MustCompile(`(?i)\\ud[89a-f]`).Match(raw)
}
