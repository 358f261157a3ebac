# Each word is what CI calls, see .ci/run.

.PHONY: fmt lint js test bench fuzz proof proof-cluster

fmt:
	gofmt -w .

lint:
	.ci/lint

js:
	cd js && npm ci --no-audit --no-fund && npm run check && npm run build && npm run size && npm test

test:
	REALTIME_TEST=long go test -race -count=1 -timeout 20m $(ARGS) work

bench:
	go test -run '^$$' -bench . -benchmem ./ ./client ./internal/... ./broker/bolt ./broker/redis

proof:
	.ci/proof

proof-cluster:
	REALTIME_TEST=proof go test -count=1 -timeout 30m -v -run 'Rolling|RestartOf' ./examples/cluster

fuzz:
	.ci/fuzz 60s
