// Package shrink deletes from maps and slices and returns the memory that a peak took.
package shrink

// Small is the length up to which a map or a slice keeps the memory of a peak.
const Small = 64

// Delete deletes key from m and returns m, or a smaller copy if a quarter of the peak is left: a Go
// map never shrinks by itself. The caller keeps peak, the largest length of m since it was last
// copied, beside the map.
func Delete[K comparable, V any](m map[K]V, key K, peak *int) map[K]V {
	*peak = max(*peak, len(m))
	delete(m, key)
	if *peak <= Small || len(m) > *peak/4 {
		return m
	}
	*peak = len(m)
	return Filter(m, func(V) bool { return true })
}

// Filter returns a map of the entries of m for which keep returns true, no larger than they need.
func Filter[K comparable, V any](m map[K]V, keep func(V) bool) map[K]V {
	kept := make(map[K]V)
	for k, v := range m {
		if keep(v) {
			kept[k] = v
		}
	}
	return kept
}

// Pop clears and removes the last element of s and returns the rest, as a smaller copy if less than
// a quarter of the capacity is used.
func Pop[T any](s []T) []T {
	var zero T
	s[len(s)-1] = zero
	s = s[:len(s)-1]
	if cap(s) > Small && len(s) < cap(s)/4 {
		s = append(make([]T, 0, 2*len(s)), s...)
	}
	return s
}
