package realtime

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/sendqueue"
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
		{`{"content":1,"content":2}`, ``, ``, errDuplicate},
		{`{"content":1,"\u0063ontent":2}`, ``, ``, errDuplicate},
		{`{"x":1,"x":2}`, ``, ``, nil},
		{`{"a":"\"{","content":"\\"}`, `"\\"`, ``, nil},
		{`[]`, ``, ``, errNotObject},
		{``, ``, ``, errNotObject},
		{`{"content":1}}`, ``, ``, errNotObject},
		{`{"x":` + strings.Repeat("[", 63) + strings.Repeat("]", 63) + `}`, ``, ``, nil},
		{`{"x":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`, ``, ``, errDepth},
	} {
		var values [2][]byte
		require.Equal(t, test.err, members([]byte(test.text), names, values[:]), test.text)
		if test.err == nil {
			require.Equal(t, test.content, string(values[0]), test.text)
			require.Equal(t, test.target, string(values[1]), test.text)
		}
	}
}

func TestJSONString(t *testing.T) {
	for raw, want := range map[string]string{
		`"a"`: "a", `""`: "", `"\n\"\\\u00e9"`: "\n\"\\é", `"\ud83d\ude00"`: "😀",
		`"\ufffd"`: "\uFFFD", `"\\ud800"`: `\ud800`, "\"\uFFFD\\n\"": "\uFFFD\n",
	} {
		got, ok := jsonString([]byte(raw))
		require.True(t, ok, raw)
		require.Equal(t, want, got)
	}
	for _, raw := range []string{
		``, `1`, `null`, `{}`, `"\ud800"`, `"\udc00"`, `"\ud800\ud800"`, `"\ud800x"`, `"\ud83d\n"`,
	} {
		_, ok := jsonString([]byte(raw))
		require.False(t, ok, raw)
	}
}

func TestAppendString(t *testing.T) {
	for s, want := range map[string]string{
		"":           `""`,
		"<b>&":       `"<b>&"`,
		"ü<b>&":      `"ü<b>&"`,
		"a\"\\\n":    `"a\"\\\n"`,
		"\xff\u2028": `"\ufffd\u2028"`,
	} {
		require.Equal(t, "x"+want, string(appendString([]byte("x"), s)))
	}
}

// NaiveMembers returns the members of a JSON object, all values of each name, as
// encoding/json reads them; nil if p is no object or nests deeper than a client may.
func NaiveMembers(p []byte) map[string][]json.RawMessage {
	if !json.Valid(p) || naiveDepth(p) > maxDepth {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(p))
	if first, err := dec.Token(); err != nil || first != json.Delim('{') {
		return nil
	}
	found := map[string][]json.RawMessage{}
	for dec.More() {
		var value json.RawMessage
		name, err := dec.Token()
		if err != nil || dec.Decode(&value) != nil {
			return nil
		}
		found[name.(string)] = append(found[name.(string)], value)
	}
	return found
}

// naiveDepth is how deep valid JSON nests.
func naiveDepth(p []byte) (deepest int) {
	dec, depth := json.NewDecoder(bytes.NewReader(p)), 0
	for {
		token, err := dec.Token()
		switch {
		case err != nil:
			return deepest
		case token == json.Delim('{') || token == json.Delim('['):
			depth++
		case token == json.Delim('}') || token == json.Delim(']'):
			depth--
		}
		deepest = max(deepest, depth)
	}
}

var (
	surrogatePair = regexp.MustCompile(`(?i)\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}`)
	surrogate     = regexp.MustCompile(`(?i)\\ud[89a-f]`)
)

// NaiveString returns the only one of values, if there is one and it is a string without
// half a surrogate pair, which encoding/json would replace.
func NaiveString(values []json.RawMessage) (s string, ok bool) {
	if len(values) != 1 || values[0][0] != '"' || json.Unmarshal(values[0], &s) != nil {
		return "", false
	}
	escapes := strings.ReplaceAll(string(values[0]), `\\`, "x")
	return s, !surrogate.MatchString(surrogatePair.ReplaceAllString(escapes, ""))
}

// fuzzDecoder checks what holds for the decoder of every protocol, and then the rest.
func fuzzDecoder(
	f *testing.F, decode func([]byte) command, seeds []string, check func(t *testing.T, p []byte, cmd command),
) {
	for _, seed := range seeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		if !utf8.Valid(p) {
			return // the reader has refused it
		}
		before := string(p)
		cmd := decode(p)
		require.Equal(t, before, string(p), "input is only read")
		require.Equal(t, before == "ping", cmd.kind == cmdPing)
		check(t, p, cmd)
	})
}

// FuzzDecodePlain compares with encoding/json: what is a chat, and what it says.
func FuzzDecodePlain(f *testing.F) {
	seeds := []string{
		"ping", `{"content":"hi","target":"all"}`, `{"content":"\ud800","target":""}`,
		`{"a":[{"b":"c"}],"target":"room","content":"\\"}`, `{"content":1}`, `{`, "\xff", ` {"target" : "x"} `,
		`{"content":"a","target":"b","content":"c"}`, `{"\u0063ontent":"\ud83d\ude00","target":"x"}`,
		`{"Content":"a","target":"b"}`, ` "ping"`, `{"content":"\\\ud83d\\\ude00","target":"\udc00"}`,
		`{"x":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `,"content":"a","target":"b"}`,
	}
	fuzzDecoder(f, decodePlain, seeds, func(t *testing.T, p []byte, cmd command) {
		members := NaiveMembers(p)
		content, ok := NaiveString(members["content"])
		target, ok2 := NaiveString(members["target"])
		require.Equal(t, ok && ok2, cmd.kind == cmdChat)
		if cmd.kind == cmdChat {
			require.Equal(t, content, string(cmd.text))
			require.Equal(t, target, cmd.target)
		}
	})
}

// FuzzAppendPlain checks that whatever goes into a frame comes out as valid JSON.
func FuzzAppendPlain(f *testing.F) {
	f.Add("chat", "alice", "text")
	f.Add("a\"b", "\x00", "\xff\u2028")
	f.Fuzz(func(t *testing.T, typ, sender, text string) {
		m := Chat(sender, text)
		m.Type = typ
		var got struct {
			Type    string  `json:"message_type"`
			Sender  *string `json:"sender_id"`
			Content struct {
				Content string `json:"content"`
			} `json:"content"`
		}
		frame := appendPlain(nil, (*broker.Message)(&m))
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

func FuzzValidName(f *testing.F) {
	for _, seed := range []string{"a", "", " a", "all", "a\x00", "\u202e", strings.Repeat("ü", 128)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if ValidName(s) != nil {
			return
		}
		require.True(t, utf8.ValidString(s))
		require.True(t, len(s) > 0 && len(s) <= 255)
		got, ok := jsonString(appendString(nil, s))
		require.True(t, ok)
		require.Equal(t, s, got, "a name survives the wire")
	})
}

// Each counter of Stats is one of counters, once.
func TestCountersCoverStats(t *testing.T) {
	var s Stats
	seen := map[*uint64]bool{}
	for i, c := range s.counters() {
		require.NotNil(t, c, "counter %d", i)
		require.False(t, seen[c], "counter %d", i)
		seen[c] = true
	}
	fields := 0
	for _, v := range []reflect.Value{reflect.ValueOf(s), reflect.ValueOf(s.Ended)} {
		for _, field := range v.Fields() {
			if field.Kind() == reflect.Uint64 {
				fields++
			}
		}
	}
	require.Len(t, seen, fields)
	require.Equal(t, "cause(99)", Cause(99).String())
}

// FuzzDecodeV1 compares with encoding/json: what is a request, and what it says.
func FuzzDecodeV1(f *testing.F) {
	seeds := []string{
		"ping", `{"type":"join","id":1,"room":"lobby"}`, `{"type":"send","id":"a","all":true,"content":{"x":[1,2]}}`,
		`{"type":"send","user":"bob","content":"\ud83d\ude00","message_type":"m"}`, `{"id":-1.5e3}`, `{"id":null}`,
		`{"type":"refresh","token":"x","token":"y"}`, `{"all":false,"conn":"c"}`, `[]`, `{"type":1}`, `{"type":"\ud800"}`,
		`{"type":"send","content":{"\ud800":["\\ud800","\ud83d\ude00\udc00"]}}`,
	}
	decode := func(p []byte) command { return decodeV1(sendqueue.OpText, p) }
	fuzzDecoder(f, decode, seeds, func(t *testing.T, p []byte, cmd command) {
		if cmd.kind == cmdPing {
			return
		}
		r := cmd.req
		requireAnswer(t, r)
		want, ok := naiveRequest(p)
		require.Equal(t, ok, r.wrong == nil, "%v", r.wrong)
		if ok {
			require.Equal(t, want, *r)
		}
	})
}

// requireAnswer checks what a client is told of a request that is none.
func requireAnswer(t *testing.T, r *request) {
	e := errorReply(r.wrong)
	if e != nil {
		require.Equal(t, codeBadRequest, e.Code)
	}
	p := reply(r.id, nil, e).Payload()
	require.True(t, json.Valid(p), "%s", p)
}

// FuzzDecodeBinary compares with a reader of the header and encoding/json.
func FuzzDecodeBinary(f *testing.F) {
	header := `{"type":"send","id":1,"room":"lobby"}`
	seeds := []string{
		"", "\x00", "\x80", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "\x02{}", "\x03{}", "\x01\xff",
		string(rune(len(header))) + header + "\x00\xff", string(rune(len(header))) + header,
		"\x16" + `{"type":"join","id":1}` + "x", "\x1b" + `{"type":"send","content":1}`,
	}
	for _, seed := range seeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		before := string(p)
		cmd := decodeV1(sendqueue.OpBinary, p)
		require.Equal(t, before, string(p), "input is only read")
		require.Equal(t, cmdRequest, cmd.kind)
		r := cmd.req
		requireAnswer(t, r)
		in := bytes.NewReader(p)
		size, err := binary.ReadUvarint(in)
		rest := p[len(p)-in.Len():]
		if err != nil || size > uint64(len(rest)) {
			require.Error(t, r.wrong)
			return
		}
		want, ok := naiveRequest(rest[:size])
		ok = ok && utf8.Valid(rest[:size]) && want.name == "send" && want.content == nil
		require.Equal(t, ok, r.wrong == nil, "%v", r.wrong)
		if ok {
			want.binary = rest[size:]
			require.Equal(t, want, *r)
		}
	})
}

// naiveRequest reads a request as encoding/json does.
func naiveRequest(p []byte) (r request, ok bool) {
	members := NaiveMembers(p)
	for _, key := range requestKeys {
		if len(members[key]) > 1 {
			return r, false
		}
	}
	for key, s := range map[string]*string{
		"type": &r.name, "room": &r.room, "user": &r.user, "conn": &r.conn, "message_type": &r.typ,
		"message_id": &r.messageID, "method": &r.method, "token": &r.token,
	} {
		if members[key] == nil {
			continue
		}
		if *s, ok = NaiveString(members[key]); !ok {
			return r, false
		}
	}
	if id := members["id"]; id != nil {
		var number json.Number
		var text string
		if len(id[0]) > maxID || json.Unmarshal(id[0], &number) != nil && json.Unmarshal(id[0], &text) != nil ||
			string(id[0]) == "null" {
			return r, false
		}
		r.id = id[0]
	}
	if all := members["all"]; all != nil && json.Unmarshal(all[0], &r.all) != nil || all != nil && string(all[0]) == "null" {
		return r, false
	}
	if content := members["content"]; content != nil {
		r.content = content[0]
	}
	return r, members["type"] != nil && !naiveHalf(r.content)
}

// naiveHalf reports whether there is half of a surrogate pair: without the pairs that are whole
// and what is escaped otherwise, some \ud8.. to \udf.. is left.
func naiveHalf(raw []byte) bool {
	raw = regexp.MustCompile(`\\[^u]`).ReplaceAll(raw, []byte("."))
	raw = regexp.MustCompile(`(?i)\\ud[89ab]..\\ud[c-f]..`).ReplaceAll(raw, []byte("."))
	return regexp.MustCompile(`(?i)\\ud[89a-f]`).Match(raw)
}
