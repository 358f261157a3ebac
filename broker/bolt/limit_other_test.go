//go:build !unix

package bolt_test

import "errors"

const canLimitFiles = false

func limitFiles() (lift func(), err error) { return nil, errors.ErrUnsupported }
