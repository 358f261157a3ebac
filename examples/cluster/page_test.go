package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/examples/internal/browser"
)

// TestPage lets three tabs chat, kills the node of one with its button, and starts it again. The
// chat goes on, and the tab gets what was said meanwhile.
func TestPage(t *testing.T) {
	requireRedis(t)
	profile := browser.Start(t).Profile(t)
	r := newRig(t, 15*time.Second)
	tabs := map[string]*browser.Tab{}
	for _, name := range []string{"ann", "bob", "cem"} {
		tabs[name] = profile.Open(t, r.url+"/?name="+name)
	}
	for _, tab := range tabs {
		tab.WaitFor("three users", `document.querySelector("#users").textContent === "3"`)
		tab.WaitFor("its node", `document.body.dataset.node !== ""`)
	}
	n := 0
	talk := func() {
		t.Helper()
		for name, tab := range tabs {
			n++
			tab.Type("#text", fmt.Sprint("hello ", n, "\r"))
			for _, other := range tabs {
				other.WaitFor("one message", fmt.Sprintf(`[...document.querySelectorAll(".chat")]
					.filter((line) => line.textContent === "%s: hello %d").length === 1`, name, n))
			}
		}
	}
	talk()
	node := tabs["ann"].Eval("document.body.dataset.node")
	tabs["bob"].Click("#node-" + node + " [name=kill]")
	tabs["ann"].WaitFor("another node", fmt.Sprintf(
		`!["", %q].includes(document.body.dataset.node)`, node))
	tabs["cem"].WaitFor("the dead node", fmt.Sprintf(
		`document.querySelector("#node-%s h2").textContent === "%[1]s: dead"`, node))
	talk()
	tabs["cem"].Click("#node-" + node + " [name=start]")
	tabs["bob"].WaitFor("the living node", fmt.Sprintf(
		`document.querySelector("#node-%s h2").textContent === "%[1]s: 0 connections"`, node))
	talk()
	for name, tab := range tabs {
		require.Equal(t, fmt.Sprint(n), tab.Eval(`"" + document.querySelectorAll(".chat").length`), name)
		require.Equal(t, "0", tab.Eval(`"" + [...document.querySelectorAll(".note")]
			.filter((line) => line.textContent.includes("missing")).length`), name)
	}
}
