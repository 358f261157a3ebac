// Package wiretest decodes JSON in a simple and slow way, with encoding/json, for comparison with
// package wire.
package wiretest

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
)

// maxDepth is how deep a client's JSON may nest.
const maxDepth = 64

// Members returns the members of a JSON object, with all values of each name, as encoding/json
// decodes them. It returns nil if p is not an object or nests too deep.
func Members(p []byte) map[string][]json.RawMessage {
	if !json.Valid(p) || depthOf(p) > maxDepth {
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

// depthOf returns how deep valid JSON nests.
func depthOf(p []byte) (deepest int) {
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

// String returns the value, if values has exactly one and it is a string without half of a
// surrogate pair, which encoding/json would replace.
func String(values []json.RawMessage) (s string, ok bool) {
	if len(values) != 1 || values[0][0] != '"' || json.Unmarshal(values[0], &s) != nil {
		return "", false
	}
	escapes := strings.ReplaceAll(string(values[0]), `\\`, "x")
	return s, !surrogate.MatchString(surrogatePair.ReplaceAllString(escapes, ""))
}
