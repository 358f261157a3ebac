package wire

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/internal/long"
)

// FuzzMembers compares Members with encoding/json. To search for hours:
//
//	go test -run '^$' -fuzz FuzzMembers -fuzztime 4h ./internal/wire
func FuzzMembers(f *testing.F) {
	for _, seed := range []string{
		`{"content":"a\u00e9\"","target":"b","x":[1,-0.5e+7,true,false,null,{"y":{}}]}`,
		" {\t\"content\" : [ ] ,\r\n\"target\":{ }\n} ", `{"content":1,"\u0063ontent":2}`,
		`{"\ud800":01}`, `[{"content":1}]`, `{"content":1}}`, `{"content":1,}`,
		`{"content":"` + "\xff\u2028\x7f" + `"}`,
	} {
		f.Add([]byte(seed))
	}
	for _, depth := range []int{maxDepth - 1, maxDepth, maxNesting - 1, maxNesting} {
		f.Add(nested(depth, `{"content":1,"target":`, "[", "1", "]", `,"content":2}`))
		f.Add(nested(depth/2, `{"content":`, `{"":[`, "1", "]}", `}`))
	}
	f.Fuzz(func(t *testing.T, p []byte) { requireSameMembers(t, p) })
}

func nested(depth int, before, open, inner, closing, after string) []byte {
	inner = strings.Repeat(open, depth) + inner + strings.Repeat(closing, depth)
	return []byte(before + inner + after)
}

// requireSameMembers compares Members with slowMembers, and returns the error of both.
func requireSameMembers(t *testing.T, p []byte) error {
	var values, want [2][]byte
	text := p[:len(p):len(p)]
	err := Members(text, names, values[:])
	wantErr := slowMembers(text, names, want[:])
	same := func(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }
	if err != wantErr || !slices.EqualFunc(values[:], want[:], same) {
		t.Fatalf("%q\ngot  %v %q\nwant %v %q", p, err, values, wantErr, want)
	}
	valid := json.Valid(text) && json.Valid(slices.Concat([]byte(`{"":`), text, []byte("}")))
	if ValidJSON(text) != valid {
		t.Fatalf("%q: valid %v", p, !valid)
	}
	return err
}

// TestMembersOfRandomTexts compares Members with encoding/json. The texts are made of the tokens of
// JSON and of what is nearly one: objects, in half of which some tokens are then replaced.
func TestMembersOfRandomTexts(t *testing.T) {
	t.Parallel()
	most := long.Of(100_000, 300_000, 3_000_000)
	seed := rand.Uint64()
	verdicts := map[error]int{}
	g := generator{Rand: rand.New(rand.NewPCG(seed, 0))}
	for range most {
		verdicts[requireSameMembers(t, g.text())]++
	}
	t.Logf("seed %d: %v", seed, verdicts)
	for _, err := range []error{nil, ErrNotObject, ErrDepth, ErrDuplicate} {
		require.Greater(t, verdicts[err], most/200, "%v", err)
	}
}

// generator makes random texts.
type generator struct {
	*rand.Rand
	tokens []string
	buf    []byte
}

var (
	keyTokens = []string{
		`"content"`, `"target"`, `"\u0063ontent"`, `"t\u0061rget"`, `"Content"`, `"content\ud800"`,
		`"x"`, `""`,
	}
	scalarTokens = []string{
		"0", "-0", "12", "-1.5", "0.25", "1e9", "12E-3", "0e+0", "true", "false", "null",
		`"a"`, `"content"`, `"12345678"`, `"1234567\n12345678\""`, `"}],:"`, `"\ud800"`,
		`"\"\\\/\b\f\n\r\t"`, `"\u00e9\uD83D\uDE00"`, "\"\u00fc\u2028\"", "\"\xff\"", "\"\x7f\"",
		strings.Repeat("[", maxDepth-2) + strings.Repeat("]", maxDepth-2),
		strings.Repeat(`{"target":`, maxDepth-1) + "1" + strings.Repeat("}", maxDepth-1),
	}
	spaceTokens = []string{" ", "\t", "\n", "\r", " \r\n\t"}
	wrongTokens = []string{
		"01", "-", "1.", ".5", "1e", "1e+", "+1", "--1", "0x1", "1_0", "tru", "True", "nulll",
		"NaN", `"`, `"a`, `"\`, `"\x"`, `"\u12"`, `"\u12g4"`, "\"\x00\"", "\"\x1f1234567\"",
		"\"1234567\n\"", "'a'", "\x00", "\xff", "\x0b", "\u00a0", "/**/",
		"{", "}", "[", "]", ",", ":", "[]", "{}", "[,]", "{,}",
	}
)

func (g *generator) one(of []string) string { return of[g.IntN(len(of))] }

func (g *generator) add(tokens ...string) {
	for _, token := range tokens {
		g.tokens = append(g.tokens, token)
		if g.IntN(16) == 0 {
			g.tokens = append(g.tokens, g.one(spaceTokens))
		}
	}
}

// text returns a text that is valid until the next call.
func (g *generator) text() []byte {
	g.tokens, g.buf = g.tokens[:0], g.buf[:0]
	g.object(3)
	if g.IntN(2) == 0 {
		for range 1 + g.IntN(3) {
			g.tokens[g.IntN(len(g.tokens))] = g.other()
		}
	}
	for _, token := range g.tokens {
		g.buf = append(g.buf, token...)
	}
	if g.IntN(16) == 0 {
		g.buf = g.buf[:g.IntN(len(g.buf)+1)]
	}
	return g.buf
}

func (g *generator) other() string {
	switch g.IntN(4) {
	case 0:
		return ""
	case 1:
		return g.one(g.tokens)
	case 2:
		return g.one(scalarTokens)
	default:
		return g.one(wrongTokens)
	}
}

func (g *generator) object(depth int) {
	g.add("{")
	for i := range g.IntN(4) {
		if i > 0 {
			g.add(",")
		}
		g.add(g.one(keyTokens), ":")
		g.value(depth)
	}
	g.add("}")
}

func (g *generator) array(depth int) {
	g.add("[")
	for i := range g.IntN(4) {
		if i > 0 {
			g.add(",")
		}
		g.value(depth)
	}
	g.add("]")
}

func (g *generator) value(depth int) {
	switch kind := g.IntN(8); {
	case depth > 0 && kind == 0:
		g.object(depth - 1)
	case depth > 0 && kind == 1:
		g.array(depth - 1)
	default:
		g.add(g.one(scalarTokens))
	}
}

// FuzzStrings compares AppendString and JSONString with encoding/json.
func FuzzStrings(f *testing.F) {
	for _, seed := range []string{
		"", "lobby", "The quick brown fox", "12345678\x00", "1234567\"\\", "Zwölf \u2028",
		"🥊\xff\uFFFD", "\b\f\n\r\t\x7f<>&/", `\"\\\/\b\f\n\r\t\u00e9\uFFFD`,
		`\ud83d\ude00`, `\ud83d\ud83d`, `\udc00`, `\ud800\n`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var want bytes.Buffer
		enc := json.NewEncoder(&want)
		enc.SetEscapeHTML(false)
		require.NoError(t, enc.Encode(s))
		got := AppendString(nil, s)
		require.Equal(t, want.String(), string(got)+"\n")
		require.Equal(t, got, AppendString(nil, []byte(s)))
		text, ok := JSONString(got)
		require.True(t, ok)
		require.Equal(t, string([]rune(s)), text)

		if raw := []byte(`"` + s + `"`); json.Valid(raw) && utf8.Valid(raw) {
			want, wantOK := slowText(raw)
			text, ok := JSONString(raw)
			require.Equal(t, wantOK, ok)
			if ok {
				require.Equal(t, want, text)
			}
		}
	})
}

// slowMembers is Members in a simple and slow way: encoding/json decides what is JSON, so a second
// reader need not look for mistakes.
func slowMembers(p []byte, names []string, values [][]byte) (wrong error) {
	if !json.Valid(p) {
		return ErrNotObject
	}
	i := slowSpace(p, 0)
	if p[i] != '{' {
		return ErrNotObject
	}
	for i = slowSpace(p, i+1); p[i] != '}'; i = slowSpace(p, i) {
		if p[i] == ',' {
			i = slowSpace(p, i+1)
		}
		key := p[i:slowString(p, i)]
		i = slowSpace(p, slowSpace(p, i+len(key))+1) // past the colon
		end, deep := slowValue(p, i)
		if deep {
			wrong = ErrDepth
		}
		if k := slowKey(key, names); k >= 0 {
			if values[k] != nil {
				wrong = ErrDuplicate
			}
			values[k] = p[i:end]
		}
		i = end
	}
	return wrong
}

func slowSpace(p []byte, i int) int {
	for p[i] == ' ' || p[i] == '\t' || p[i] == '\n' || p[i] == '\r' {
		i++
	}
	return i
}

func slowString(p []byte, i int) int {
	for i++; p[i] != '"'; i++ {
		if p[i] == '\\' {
			i++
		}
	}
	return i + 1
}

func slowValue(p []byte, i int) (end int, deep bool) {
	depth := 0
	for ; ; i++ {
		switch p[i] {
		case '"':
			i = slowString(p, i) - 1
		case '{', '[':
			depth++
			deep = deep || depth >= maxDepth
			continue
		case '}', ']':
			depth--
		case ' ', '\t', '\n', '\r', ',', ':':
			continue
		default: // a number, true, false or null
			for i+1 < len(p) && !strings.ContainsRune(" \t\n\r,]}", rune(p[i+1])) {
				i++
			}
		}
		if depth == 0 {
			return i + 1, deep
		}
	}
}

func slowKey(key []byte, names []string) int {
	text, ok := slowText(key)
	if !ok {
		return -1
	}
	return slices.Index(names, text)
}

// slowText is JSONString.
func slowText(raw []byte) (s string, ok bool) {
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return "", false
	}
	return s, !strings.ContainsRune(s, utf8.RuneError) || !naiveHalf(raw)
}
