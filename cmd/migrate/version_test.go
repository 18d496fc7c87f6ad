package main

import (
	"encoding/json"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
)

func TestVersionPrintsTheCommitOfTheBuild(t *testing.T) {
	const revision = "1442e5e09d54d8d1a6e7c7a9a4b2f0f1e2d3c4b5"
	vcs := func(modified string) []debug.BuildSetting {
		return []debug.BuildSetting{{Key: "-trimpath", Value: "true"}, {Key: "vcs.revision", Value: revision}, {Key: "vcs.time", Value: "2026-11-30T18:00:00Z"}, {Key: "vcs.modified", Value: modified}}
	}
	module := func(version string) debug.Module { return debug.Module{Version: version} }
	made := " " + runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH + "\n"
	for name, c := range map[string]struct {
		info debug.BuildInfo
		want string
	}{
		"a commit": {debug.BuildInfo{Main: module("v1.2.0"), Settings: vcs("false")}, "migrate v1.2.0" + made + "commit " + revision + " of 2026-11-30T18:00:00Z\n"},
		"changes":  {debug.BuildInfo{Main: module("(devel)"), Settings: vcs("true")}, "migrate devel-1442e5e09d54" + made + "commit " + revision + " of 2026-11-30T18:00:00Z, with changes that are in no commit\n"},
		"no clone": {debug.BuildInfo{Main: module("(devel)")}, "migrate devel" + made + "commit unknown: to have it told, build in a clone with: GOFLAGS=-buildvcs=true make build\n"},
		"no data":  {debug.BuildInfo{}, "migrate devel" + made + "commit unknown: to have it told, build in a clone with: GOFLAGS=-buildvcs=true make build\n"},
	} {
		var out strings.Builder
		if err := buildOf(&c.info).print(&out); err != nil || out.String() != c.want {
			t.Errorf("%s: %v\n%swant\n%s", name, err, &out, c.want)
		}
	}
}

func TestVersionAsJSON(t *testing.T) {
	code, out, errs, _ := do(t, nil, "version --json")
	var got Build
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 || got != thisBuild() || got.Go != runtime.Version() {
		t.Errorf("exit %d, %v: %s%s", code, err, out, errs)
	}
}
