// Package shrink deletes from maps and slices and returns the memory that a peak took.
package shrink

// roomy is up to how large a map or slice stays that was once larger.
const roomy = 64

// without deletes a key. A Go map never shrinks, so one of which a quarter is left makes way
// for a smaller one: a crowd that has left must not cost memory for ever. most is what it
// remembers for that.
func Without[K comparable, V any](m map[K]V, key K, most *int) map[K]V {
	*most = max(*most, len(m))
	delete(m, key)
	if *most <= roomy || len(m) > *most/4 {
		return m
	}
	*most = len(m)
	return Only(m, func(V) bool { return true })
}

// only returns the entries of m that are to be kept, in a map of their size.
func Only[K comparable, V any](m map[K]V, keep func(V) bool) map[K]V {
	kept := make(map[K]V)
	for k, v := range m {
		if keep(v) {
			kept[k] = v
		}
	}
	return kept
}

// shorter returns s without its last element, which it clears, in less memory if most of it
// is free.
func Shorter[T any](s []T) []T {
	var zero T
	s[len(s)-1] = zero
	s = s[:len(s)-1]
	if cap(s) > roomy && len(s) < cap(s)/4 {
		s = append(make([]T, 0, 2*len(s)), s...)
	}
	return s
}
