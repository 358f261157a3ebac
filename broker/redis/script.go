package redis

import (
	"crypto/sha1"
	_ "embed" // for the scripts
	"encoding/hex"
)

// script is a script that a server runs.
type script struct{ text, sum string }

func newScript(text string) *script {
	text = common + text
	sum := sha1.Sum([]byte(text)) // this is how Redis names scripts
	return &script{text, hex.EncodeToString(sum[:])}
}

var (
	//go:embed script/common.lua
	common string
	//go:embed script/publish.lua
	publishText string
	//go:embed script/read.lua
	readText string
	//go:embed script/ends.lua
	endsText string
	//go:embed script/cursor.lua
	cursorText string
	//go:embed script/ack.lua
	ackText string

	publishScript = newScript(publishText)
	readScript    = newScript(readText)
	endsScript    = newScript(endsText)
	cursorScript  = newScript(cursorText)
	ackScript     = newScript(ackText)
)
