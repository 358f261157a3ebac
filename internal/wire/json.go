package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxDepth is how deep the objects and arrays in a client's JSON may nest.
const maxDepth = 64

var (
	ErrNotObject = errors.New("not a JSON object")
	ErrDuplicate = errors.New("duplicate key")
	ErrDepth     = errors.New("nested too deep")
)

// Members finds the members of the JSON object p with these exact names, and puts their raw values
// into values: nil for a missing member. It does so even if it returns an error. Members with other
// names are ignored. A duplicate of one of the names is an error, because two readers of the same
// text could then see different values.
//
// Package encoding/json validates p. It offers neither exact names (it folds case) nor the
// detection of duplicates (the last one wins), so Members walks the valid text itself.
func Members(p []byte, names []string, values [][]byte) (wrong error) {
	if !json.Valid(p) {
		return ErrNotObject
	}
	i := space(p, 0)
	if p[i] != '{' {
		return ErrNotObject
	}
	for i = space(p, i+1); p[i] != '}'; i = space(p, i) {
		if p[i] == ',' {
			i = space(p, i+1)
		}
		key := p[i:pastString(p, i)]
		i = space(p, space(p, i+len(key))+1) // past the colon
		end, deep := pastValue(p, i)
		if deep {
			wrong = ErrDepth
		}
		if k := keyAmong(key, names); k >= 0 {
			if values[k] != nil {
				wrong = ErrDuplicate
			}
			values[k] = p[i:end]
		}
		i = end
	}
	return wrong
}

func space(p []byte, i int) int {
	for p[i] == ' ' || p[i] == '\t' || p[i] == '\n' || p[i] == '\r' {
		i++
	}
	return i
}

// pastString returns the index after the string that begins at i.
func pastString(p []byte, i int) int {
	for i++; p[i] != '"'; i++ {
		if p[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// pastValue returns the index after the value that begins at i. It reports whether the value nests
// too deep for a member of an object.
func pastValue(p []byte, i int) (end int, deep bool) {
	depth := 0
	for ; ; i++ {
		switch p[i] {
		case '"':
			i = pastString(p, i) - 1
		case '{', '[':
			depth++
			deep = deep || depth >= maxDepth
			continue
		case '}', ']':
			depth--
		case ' ', '\t', '\n', '\r', ',', ':':
			continue
		default: // a number, true, false or null
			for i+1 < len(p) && !endsScalar(p[i+1]) {
				i++
			}
		}
		if depth == 0 {
			return i + 1, deep
		}
	}
}

func endsScalar(c byte) bool {
	switch c {
	case ' ', '\t', '\n', '\r', ',', ']', '}':
		return true
	}
	return false
}

// keyAmong returns the index in names of a raw key, or -1.
func keyAmong(key []byte, names []string) int {
	said, ok := jsonText(key)
	if !ok {
		return -1
	}
	for k, name := range names {
		if string(said) == name {
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

// JSONString decodes a raw JSON value that is a string. A string with half of a surrogate pair is
// refused: encoding/json would replace the half, and two different names would become equal.
func JSONString(raw []byte) (string, bool) {
	text, ok := jsonText(raw)
	return string(text), ok
}

// jsonText is JSONString with a result that refers to raw if raw has no escapes.
func jsonText(raw []byte) ([]byte, bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return nil, false
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1], true
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return nil, false
	}
	if strings.ContainsRune(s, utf8.RuneError) && loneSurrogate(raw) {
		return nil, false
	}
	return []byte(s), true
}

// loneSurrogate reports whether valid JSON contains a string with half of a surrogate pair. Readers
// replace, refuse or keep it: RFC 8259 section 8.2.
func loneSurrogate(raw []byte) bool {
	for i := 0; ; i++ {
		next := bytes.IndexByte(raw[min(i, len(raw)):], '\\')
		if next < 0 {
			return false
		}
		if i += next + 1; raw[i] != 'u' {
			continue
		}
		switch u := hex4(raw, i+1); {
		case u >= 0xDC00 && u <= 0xDFFF:
			return true
		case u >= 0xD800 && u <= 0xDBFF:
			if !bytes.HasPrefix(raw[i+5:], []byte(`\u`)) {
				return true
			}
			if low := hex4(raw, i+7); low < 0xDC00 || low > 0xDFFF {
				return true
			}
			i += 6
		}
		i += 4
	}
}

func hex4(raw []byte, i int) uint64 {
	u, _ := strconv.ParseUint(string(raw[i:i+4]), 16, 32)
	return u
}

// AppendString appends s as a JSON string. Bytes that are not UTF-8 are replaced.
func AppendString[T string | []byte](buf []byte, s T) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			return appendEscaped(buf, string(s))
		}
	}
	buf = append(buf, '"')
	buf = append(buf, s...)
	return append(buf, '"')
}

// appendEscaped escapes s with encoding/json, except for characters that only HTML requires: a
// character must look the same whatever else the string contains.
func appendEscaped(buf []byte, s string) []byte {
	quoted := bytes.NewBuffer(buf)
	enc := json.NewEncoder(quoted)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // Encode does not fail for a string and a bytes.Buffer
	return quoted.Bytes()[:quoted.Len()-1]
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
