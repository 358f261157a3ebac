package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math/bits"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	maxDepth   = 64     // how deep the objects and arrays in a client's JSON may nest
	maxNesting = 10_000 // the same for encoding/json: what nests deeper is not JSON
)

var (
	ErrNotObject = errors.New("not a JSON object")
	ErrDuplicate = errors.New("duplicate key")
	ErrDepth     = errors.New("nested too deep")
)

// Members finds the members of the JSON object p with these exact names, and puts their raw values
// into values, which has only nils before: nil for a missing member. It does so even if it returns
// ErrDepth or ErrDuplicate. Members with other names are ignored. A duplicate of one of the names
// is an error, because two readers of the same text could then see different values.
//
// Members reads p once, and allocates nothing if no name has escapes and p is not too deep. It has
// its own parser: encoding/json offers neither exact names (it folds case) nor the detection of
// duplicates (the last one wins), and a library with exactly its grammar would be one more
// requirement. FuzzMembers compares the two.
func Members(p []byte, names []string, values [][]byte) error {
	wrong, ok := members(p, names, values)
	if !ok {
		clear(values) // what precedes the mistake
		return ErrNotObject
	}
	return wrong
}

// ValidJSON reports whether p is JSON that can be a member of an object, as encoding/json decides it.
func ValidJSON(p []byte) bool {
	end, _ := pastValue(p, space(p, 0))
	return end >= 0 && space(p, end) == len(p)
}

// members is Members, except that it reports whether p is a JSON object.
func members(p []byte, names []string, values [][]byte) (wrong error, ok bool) {
	i := space(p, 0)
	if at(p, i) != '{' {
		return nil, false
	}
	i = space(p, i+1)
	for more := at(p, i) != '}'; more; {
		end := pastString(p, i)
		if end < 0 {
			return nil, false
		}
		k := keyAmong(p[i:end], names)
		i = pastColon(p, end)
		end, deep := pastValue(p, i)
		if end < 0 {
			return nil, false
		}
		if deep {
			wrong = ErrDepth
		}
		if k >= 0 {
			if values[k] != nil {
				wrong = ErrDuplicate
			}
			values[k] = p[i:end]
		}
		i = space(p, end)
		if more = at(p, i) == ','; more {
			i = space(p, i+1)
		}
	}
	return wrong, at(p, i) == '}' && space(p, i+1) == len(p)
}

// at returns the byte at i. Outside the text it returns 0, with which nothing in JSON begins.
func at(p []byte, i int) byte {
	if uint(i) < uint(len(p)) {
		return p[i]
	}
	return 0
}

func space(p []byte, i int) int {
	for {
		switch at(p, i) {
		case ' ', '\t', '\n', '\r':
			i++
		default:
			return i
		}
	}
}

// The functions whose names begin with past return the index after what they find at i, or -1 if it
// is not there. Nothing is at -1, so the last of several in a row tells whether all were there.

func pastColon(p []byte, i int) int {
	if i = space(p, i); at(p, i) != ':' {
		return -1
	}
	return space(p, i+1)
}

// pastValue finds a value, and reports whether it nests too deep for a member of an object. It does
// not call itself, because a client decides how deep that would go.
func pastValue(p []byte, i int) (end int, deep bool) {
	closers := make([]byte, 0, maxDepth) // of the open objects and arrays, the innermost last
	for {
		if c := at(p, i); c == '{' || c == '[' {
			closer := c + 2 // by the order of ASCII
			closers = append(closers, closer)
			if len(closers) == maxNesting { // with the object around the value, one too many
				return -1, true
			}
			deep = deep || len(closers) >= maxDepth
			if i = space(p, i+1); at(p, i) != closer {
				i = pastName(p, i, closer)
				continue
			}
		} else {
			i = pastScalar(p, i)
		}
		for len(closers) > 0 {
			if i = space(p, i); at(p, i) != closers[len(closers)-1] {
				break
			}
			closers = closers[:len(closers)-1]
			i++
		}
		if len(closers) == 0 {
			return i, deep
		}
		if at(p, i) != ',' {
			return -1, deep
		}
		i = pastName(p, space(p, i+1), closers[len(closers)-1])
	}
}

// pastName finds the name and the colon of a member in an object, and nothing in an array.
func pastName(p []byte, i int, closer byte) int {
	if closer == '}' {
		return pastColon(p, pastString(p, i))
	}
	return i
}

// pastScalar finds a value that is no object and no array.
func pastScalar(p []byte, i int) int {
	switch at(p, i) {
	case '"':
		return pastString(p, i)
	case 't':
		return pastWord(p, i, "true")
	case 'f':
		return pastWord(p, i, "false")
	case 'n':
		return pastWord(p, i, "null")
	default:
		return pastNumber(p, i)
	}
}

func pastWord(p []byte, i int, word string) int {
	if end := i + len(word); end <= len(p) && string(p[i:end]) == word {
		return end
	}
	return -1
}

func pastNumber(p []byte, i int) int {
	if at(p, i) == '-' {
		i++
	}
	if at(p, i) == '0' {
		i++
	} else {
		i = pastDigits(p, i)
	}
	if at(p, i) == '.' {
		i = pastDigits(p, i+1)
	}
	if c := at(p, i); c == 'e' || c == 'E' {
		i++
		if c = at(p, i); c == '+' || c == '-' {
			i++
		}
		i = pastDigits(p, i)
	}
	return i
}

// pastDigits finds at least one digit.
func pastDigits(p []byte, i int) int {
	end := i
	for c := at(p, end); '0' <= c && c <= '9'; c = at(p, end) {
		end++
	}
	if end == i {
		return -1
	}
	return end
}

func pastString(p []byte, i int) int {
	if at(p, i) != '"' {
		return -1
	}
	for i++; ; {
		i = pastPlain(p, i)
		switch at(p, i) {
		case '"':
			return i + 1
		case '\\':
			if i = pastEscape(p, i); i < 0 {
				return -1
			}
		default:
			return -1
		}
	}
}

// pastEscape finds a backslash and what must follow.
func pastEscape(p []byte, i int) int {
	switch at(p, i+1) {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 2
	case 'u':
		if hex4(p, i+2) >= 0 {
			return i + 6
		}
	}
	return -1
}

// pastPlain finds the bytes, if any, that stand for themselves in a string.
func pastPlain(p []byte, i int) int {
	for ; len(p)-i >= 8; i += 8 {
		if found := special(binary.LittleEndian.Uint64(p[i:])); found != 0 {
			return i + bits.TrailingZeros64(found)/8
		}
	}
	for i < len(p) && p[i] >= ' ' && p[i] != '"' && p[i] != '\\' {
		i++
	}
	return i
}

const ones, highs = 0x0101010101010101, 0x8080808080808080

// special finds the bytes among eight that cannot stand for themselves in a string: control
// characters, quotes and backslashes. It returns a number with the highest bit of the first such
// byte. Higher bits mean nothing, because a subtraction borrows from the bytes above.
func special(x uint64) uint64 {
	quotes, backslashes := x^'"'*ones, x^'\\'*ones // 0 where they are
	return ((x-' '*ones)&^x | (quotes-ones)&^quotes | (backslashes-ones)&^backslashes) & highs
}

// hex4 returns the number that the four hexadecimal digits at i are, or -1.
func hex4(p []byte, i int) (r rune) {
	for end := i + 4; i < end; i++ {
		switch c := at(p, i); {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return -1
		}
	}
	return r
}

// keyAmong returns the index in names of a raw key, or -1. No name has a character that needs an
// escape, so most keys can be compared as they are.
func keyAmong(key []byte, names []string) int {
	k := indexOf(key[1:len(key)-1], names)
	if k < 0 && bytes.IndexByte(key, '\\') >= 0 {
		if text, ok := jsonText(key); ok {
			k = indexOf(text, names)
		}
	}
	return k
}

func indexOf(text []byte, names []string) int {
	for k, name := range names {
		if string(text) == name {
			return k
		}
	}
	return -1
}

// maxInt is the largest integer that every JSON reader represents exactly, RFC 8259 section 6.
const maxInt = 1<<53 - 1

// jsonUint decodes a raw JSON value that is an integer from 0 to maxInt, without fraction or
// exponent.
func jsonUint(raw []byte) (uint64, bool) {
	n, err := strconv.ParseUint(string(raw), 10, 64)
	return n, err == nil && n <= maxInt
}

// JSONString decodes a raw value that Members has found, if it is a string. A string with half of a
// surrogate pair is refused: encoding/json would replace the half, and two different names would
// become equal.
func JSONString(raw []byte) (string, bool) {
	text, ok := jsonText(raw)
	return string(text), ok
}

// jsonText is JSONString with a result that refers to raw if raw has no escapes.
func jsonText(raw []byte) ([]byte, bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return nil, false
	}
	raw = raw[1 : len(raw)-1]
	i := bytes.IndexByte(raw, '\\')
	if i < 0 {
		return raw, true
	}
	text := make([]byte, 0, len(raw))
	for ; i >= 0; i = bytes.IndexByte(raw, '\\') {
		r, size := unescape(raw[i:])
		if size == 0 {
			return nil, false
		}
		text = utf8.AppendRune(append(text, raw[:i]...), r)
		raw = raw[i+size:]
	}
	return append(text, raw...), true
}

// loneSurrogate reports whether valid JSON contains a string with half of a surrogate pair. Readers
// replace, refuse or keep it: RFC 8259 section 8.2.
func loneSurrogate(raw []byte) bool {
	for i := bytes.IndexByte(raw, '\\'); i >= 0; i = bytes.IndexByte(raw, '\\') {
		_, size := unescape(raw[i:])
		if size == 0 {
			return true
		}
		raw = raw[i+size:]
	}
	return false
}

// unescape returns the character of the escape with which p begins, and the length of the escape,
// which is 0 for half of a surrogate pair.
func unescape(p []byte) (r rune, size int) {
	if p[1] != 'u' {
		if k := strings.IndexByte("bfnrt", p[1]); k >= 0 {
			return rune("\b\f\n\r\t"[k]), 2
		}
		return rune(p[1]), 2 // a quote, a backslash or a slash
	}
	r = hex4(p, 2)
	if !utf16.IsSurrogate(r) {
		return r, 6
	}
	if bytes.HasPrefix(p[6:], []byte(`\u`)) {
		if r = utf16.DecodeRune(r, hex4(p, 8)); r != utf8.RuneError {
			return r, 12
		}
	}
	return 0, 0
}

// AppendString appends s as a JSON string. Bytes that are not UTF-8 are replaced.
func AppendString[T string | []byte](buf []byte, s T) []byte {
	i := 0
	for p := []byte(s); len(p)-i >= 8; i += 8 {
		if x := binary.LittleEndian.Uint64(p[i:]); special(x)|x&highs != 0 {
			return appendEscaped(buf, string(s))
		}
	}
	for ; i < len(s); i++ {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			return appendEscaped(buf, string(s))
		}
	}
	buf = append(buf, '"')
	buf = append(buf, s...)
	return append(buf, '"')
}

// appendEscaped is AppendString for all strings. It escapes with encoding/json, except for
// characters that only HTML requires: a character must look the same whatever else the string
// contains.
func appendEscaped(buf []byte, s string) []byte {
	if !hasEscapes(s) {
		return append(append(append(buf, '"'), s...), '"')
	}
	quoted := bytes.NewBuffer(buf)
	enc := json.NewEncoder(quoted)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // Encode does not fail for a string and a bytes.Buffer
	return quoted.Bytes()[:quoted.Len()-1]
}

// hasEscapes reports whether encoding/json may escape something in s. The replacement character is
// among that, because range gives it for bytes that are not UTF-8.
func hasEscapes(s string) bool {
	for _, r := range s {
		switch {
		case r < ' ', r == '"', r == '\\', r == '\u2028', r == '\u2029', r == utf8.RuneError:
			return true
		}
	}
	return false
}

// appendStringOrNull appends s, or null if s is empty.
func appendStringOrNull(buf []byte, s string) []byte {
	if s == "" {
		return append(buf, "null"...)
	}
	return AppendString(buf, s)
}

// jsonBool decodes a raw JSON value that is true or false. A missing value is false.
func jsonBool(raw []byte, b *bool) bool {
	*b = string(raw) == "true"
	return *b || raw == nil || string(raw) == "false"
}

// IsNull reports whether a JSON value is absent or null.
func IsNull(p []byte) bool { return len(p) == 0 || string(p) == "null" }

// OrNil returns a JSON value, or nil if it is null.
func OrNil(p json.RawMessage) json.RawMessage {
	if IsNull(p) {
		return nil
	}
	return p
}

// Marshal is json.Marshal, but JSON in v keeps its size: json.Marshal writes < as \u003c also in a
// json.RawMessage, which can make it larger than a limit that it has passed.
func Marshal(v any) ([]byte, error) {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}
