package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/namespaces/network"
	"github.com/migrate-hpc/migrate/restore/pageset"
	"github.com/migrate-hpc/migrate/restore/pagestore"
	"github.com/migrate-hpc/migrate/stream"
	"github.com/migrate-hpc/migrate/testenv"
)

func incoming(t testing.TB) *Receiver {
	t.Helper()
	store, err := pagestore.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil && !errors.Is(err, os.ErrClosed) { // handed over
			t.Error(err)
		}
	})
	return NewReceiver(t.TempDir(), store, t.TempDir())
}

func TestWhatIsSentArrives(t *testing.T) {
	in := incoming(t)
	first := newLane(t).file(own("stdout", 0), "one\ntwo\n").images(map[string][]byte{"core-1.img": []byte("core"), "pagemap-1.img": pagemap(t)}).
		file(own("stdout", 4), "TWO\nthree\n").file(own("empty", 0), "").end()
	run := stream.AppendZero(stream.AppendRun(nil, 1, 0x1000, append(page(1), page(2)...)), 1, 0x3000, 5)
	second := newLane(t).stream(stream.KindPages, run, stream.AppendRun(nil, 2, 0x1000, page(3))).stream(stream.KindPages)
	for _, r := range lazyRegions(t) {
		second.stream(stream.KindPages, stream.AppendZero(nil, 1, r.Addr, r.Pages))
	}
	second.end()
	if err := in.Receive(testenv.Bounded(t), []io.Reader{first.reader(), second.reader()}); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(in.IODir, "stdout"): "one\nTWO\nthree\n", filepath.Join(in.IODir, "empty"): "", filepath.Join(in.Images, "core-1.img"): "core",
	} {
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s holds %q (%v)", path, got, err)
		}
	}
	if st, err := os.Stat(filepath.Join(in.IODir, "stdout")); err != nil || st.Mode().Perm() != 0o640 {
		t.Errorf("mode %v (%v)", st.Mode(), err)
	}
	if in.Store.Bytes() != 3*stream.PageSize || in.Received.Load() < 8*stream.PageSize {
		t.Errorf("%d bytes are stored, %d counted", in.Store.Bytes(), in.Received.Load())
	}
	if err := pagestore.FirstOf(in.Store.Gaps(map[stream.VPID][]pageset.Range{1: {{Start: 0x1000, End: 0x8000}}, 2: {{Start: 0x1000, End: 0x2000}}})); err != nil {
		t.Error(err)
	}
}

func TestWhatArrivedIsComparedWithWhatTheSourceSays(t *testing.T) {
	var all int64
	for _, r := range lazyRegions(t) {
		all += r.Pages
	}
	for name, c := range map[string]struct {
		pages int64
		last  byte
		says  string
	}{
		"equal": {all, 0, ""}, "different": {all, 1, "of process 1 is not what the source has"}, "too few": {all - 1, 0, "of "},
	} {
		in, l := incoming(t), newLane(t)
		l.images(map[string][]byte{"pagemap-1.img": pagemap(t)})
		for _, r := range lazyRegions(t) {
			l.stream(stream.KindPages, stream.AppendZero(nil, 1, r.Addr, r.Pages))
		}
		l.digests(c.pages, c.last).end()
		err := in.Receive(testenv.Bounded(t), []io.Reader{l.reader()})
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestOutputIsCutWhereTheNewPieceEnds(t *testing.T) {
	in := incoming(t)
	l := newLane(t)
	for _, r := range lazyRegions(t) {
		l.stream(stream.KindPages, stream.AppendZero(nil, 1, r.Addr, r.Pages))
	}
	l.file(own("stdout", 0), "a long line that the job cut later\n").file(own("stdout", 0), "new\n").images(map[string][]byte{"pagemap-1.img": pagemap(t)}).end()
	if err := in.Receive(testenv.Bounded(t), []io.Reader{l.reader()}); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(in.IODir, "stdout")); err != nil || string(got) != "new\n" {
		t.Errorf("got %q %v", got, err)
	}
}

func TestOutputAboveTheJobsLimitIsNotTaken(t *testing.T) {
	for name, l := range map[string]*lane{
		"at once":        newLane(t).file(own("stdout", 0), "123456789"),
		"piece by piece": newLane(t).file(own("stdout", 0), "12345").file(own("stdout", 5), "6789"),
		"behind a hole":  newLane(t).file(own("stdout", 1<<40), ""),
	} {
		in := incoming(t)
		in.OutputLimit = 8
		if err := in.Receive(testenv.Bounded(t), []io.Reader{l.end().reader()}); err == nil || !strings.Contains(err.Error(), "output limit of 8") {
			t.Errorf("%s: %v", name, err)
		}
		if st, err := os.Stat(filepath.Join(in.IODir, "stdout")); err == nil && st.Size() > 8 {
			t.Errorf("%s: %d bytes are kept", name, st.Size())
		}
	}
}

func TestLanesThatMakeNoSenseAreRefused(t *testing.T) {
	head := func(text string) []byte { return []byte(text) }
	for name, c := range map[string]struct {
		build func(l *lane)
		names string
	}{
		"digests without seed": {func(l *lane) { l.stream(stream.KindDigests).end() }, "verify"},
		"digests cut":          {func(l *lane) { l.stream(stream.KindDigests, stream.DigestHead(1), []byte("x")).end() }, "verify"},
		"unknown kind":         {func(l *lane) { l.stream(77).end() }, "kind"},
		"end that is not":      {func(l *lane) { l.stream(stream.KindEnd, []byte("more")) }, "not empty"},
		"no bytes at all":      {func(*lane) {}, "EOF"},
		"no end":               {func(l *lane) { l.file(own("stdout", 0), "x") }, "EOF"},
		"garbage":              {func(l *lane) { l.buf.WriteString(strings.Repeat("garbage", 100)) }, ""},
		"file above":           {func(l *lane) { l.file(own("../stdout", 0), "x").end() }, "output file"},
		"file elsewhere":       {func(l *lane) { l.file(own("/etc/passwd", 0), "x").end() }, "output file"},
		"file in a directory":  {func(l *lane) { l.file(own("a/b", 0), "x").end() }, "output file"},
		"file dot":             {func(l *lane) { l.file(own(".", 0), "x").end() }, "output file"},
		"file dot dot":         {func(l *lane) { l.file(own("..", 0), "x").end() }, "output file"},
		"file without name":    {func(l *lane) { l.file(own("", 0), "x").end() }, "output file"},
		"file before itself":   {func(l *lane) { l.file(own("stdout", -1), "x").end() }, "output file"},
		"file beyond all":      {func(l *lane) { l.file(own("stdout", 1<<62), "x").end() }, "output file"},
		"file without head":    {func(l *lane) { l.stream(stream.KindFile).end() }, "output file"},
		"file with bad head":   {func(l *lane) { l.stream(stream.KindFile, head("{")).end() }, "output file"},
		"images that are not":  {func(l *lane) { l.stream(stream.KindImages, bytes.Repeat([]byte("x"), 4096)).end() }, ""},
		"pages that are not":   {func(l *lane) { l.stream(stream.KindPages, []byte("x")).end() }, "page run"},
		"page off its place":   {func(l *lane) { l.stream(stream.KindPages, stream.AppendRun(nil, 1, 0x1001, page(1))).end() }, "page run"},
		"page of nobody":       {func(l *lane) { l.stream(stream.KindPages, stream.AppendRun(nil, 0, 0x1000, page(1))).end() }, "page run"},
		"page of the kernel":   {func(l *lane) { l.stream(stream.KindPages, stream.AppendRun(nil, 1, 1<<63, page(1))).end() }, "page run"},
		"pages cut short": {func(l *lane) {
			l.stream(stream.KindPages, append(stream.AppendHeader(nil, 1, 0x1000, 2), page(1)...)).end()
		}, "page run"},
		"zeros beyond all": {func(l *lane) { l.stream(stream.KindPages, stream.AppendZero(nil, 1, 1<<56-stream.PageSize, 2)).end() }, "page run"},
	} {
		t.Run(name, func(t *testing.T) {
			in, l := incoming(t), newLane(t)
			c.build(l)
			err := in.Receive(testenv.Bounded(t), []io.Reader{l.reader()})
			if err == nil || !strings.Contains(err.Error(), c.names) || !strings.Contains(err.Error(), "lane 0") {
				t.Errorf("got %v", err)
			}
			if above, err := os.ReadDir(filepath.Dir(in.IODir)); err != nil || slices.ContainsFunc(above, func(e os.DirEntry) bool { return e.Name() == "stdout" }) {
				t.Errorf("it reached above its directory: %v %v", above, err)
			}
		})
	}
}

func TestALaneThatIsCutAnywhereIsNeverTakenForWhole(t *testing.T) {
	whole := newLane(t).file(own("stdout", 0), "one\n").images(map[string][]byte{"core-1.img": []byte("core")}).
		stream(stream.KindPages, stream.AppendRun(nil, 1, 0x1000, page(1))).end()
	data := whole.buf.Bytes()
	for n := 0; n < len(data); n += 1 + len(data)/97 {
		in := incoming(t)
		err := in.Receive(testenv.Bounded(t), []io.Reader{bytes.NewReader(data[:n])})
		if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
			t.Errorf("%d of %d bytes: %v", n, len(data), err)
		}
	}
}

func TestNothingIsAddedBehindTheWordThatAllImagesAreHere(t *testing.T) {
	ready := func() *lane {
		return newLane(t).images(map[string][]byte{"core-1.img": []byte("core")}).stream(stream.KindReady)
	}
	for name, late := range map[string]*lane{
		"images": ready().images(map[string][]byte{"core-2.img": []byte("late")}),
		"output": ready().file(own("stdout", 0), "late"),
		"blocks": ready().stream(stream.KindBlocks, []byte(`{"name":"pages-1.img","size":0}`)),
		"files":  ready().stream(stream.KindTmpfsNames, []byte(`{"mount":"/tmp"}`)),
	} {
		in := incoming(t)
		if err := in.Receive(testenv.Bounded(t), []io.Reader{late.end().reader()}); !errors.Is(err, errLate) {
			t.Errorf("%s: %v", name, err)
		}
		for _, dir := range []string{in.Images, in.IODir} {
			entries, err := os.ReadDir(dir)
			if err != nil || slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() != "core-1.img" }) {
				t.Errorf("%s: %v %v", name, entries, err)
			}
		}
	}
}

// golden is a lazy dump by CRIU 4.2.1 of a small job.
const golden = "../criu/image/testdata/criu-4.2"

func lazyRegions(t testing.TB) []image.Region {
	t.Helper()
	all, err := image.Pagemaps(golden)
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all[1], func(r image.Region) bool { return !r.Lazy })
}

func pagemap(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(golden, "pagemap-1.img"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestADamagedPagemapIsNoReasonToTrustTheRest(t *testing.T) {
	in := incoming(t)
	l := newLane(t).images(map[string][]byte{"pagemap-7.img": []byte("damaged")}).end()
	if err := in.Receive(testenv.Bounded(t), []io.Reader{l.reader()}); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(testenv.Bounded(t), Plan{Images: in.Images, Store: in.Images, Work: t.TempDir()}, nil); err == nil || !strings.Contains(err.Error(), "pagemap-7") {
		t.Errorf("opened: %v", err)
	}
}

func TestTheJobCanBeRestoredWhenOnlyMemoryIsMissing(t *testing.T) {
	in := incoming(t)
	first := newLane(t).images(map[string][]byte{"pagemap-1.img": pagemap(t)})
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- in.Receive(testenv.Bounded(t), []io.Reader{r}) }()
	if _, err := io.Copy(w, first.reader()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-in.Ready():
		t.Fatal("ready before it was said")
	default:
	}
	if _, err := io.Copy(w, newLane(t).stream(stream.KindReady).reader()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-in.Ready():
	case <-time.After(testenv.Patience):
		t.Fatal("not ready")
	}
	if _, err := io.Copy(w, newLane(t).end().reader()); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

// feed is a lane's new owner.
type feed struct {
	frames int
	err    error
	how    *string
}

func (f *feed) Frame([]byte) error { f.frames++; return f.err }
func (f *feed) Close() error       { *f.how = fmt.Sprintf("closed after %d", f.frames); return nil }
func (f *feed) Abort()             { *f.how = "aborted" }

func TestEveryFrameGoesToTheStoreOrToItsNewOwner(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want string
	}{"taken": {nil, "closed after 2"}, "refused": {errors.New("no room"), "aborted"}} {
		t.Run(name, func(t *testing.T) {
			in := incoming(t)
			r, w := io.Pipe()
			ended := make(chan error, 1)
			go func() {
				ended <- in.Receive(testenv.Bounded(t), []io.Reader{r})
				r.Close()
			}()
			page := func(n uint64) *lane { return newLane(t).stream(stream.KindPages, stream.AppendZero(nil, 1, n<<12, 1)) }
			if _, err := io.Copy(w, page(1).reader()); err != nil {
				t.Fatal(err)
			}
			var how string
			for range 2 {
				if err := in.HandOver(func() PageSink { return &feed{err: c.err, how: &how} }); err != nil {
					t.Fatal(err)
				}
			}
			for n := range uint64(2) {
				_, _ = io.Copy(w, page(2+n).reader()) // refused at the first, if so
			}
			_, _ = io.Copy(w, newLane(t).end().reader())
			if err := <-ended; !errors.Is(err, c.err) || c.err == nil && err != nil || how != c.want {
				t.Errorf("%v, %s; want %v, %s", err, how, c.err, c.want)
			}
		})
	}
}

func TestReceiveTellsWhyItWasStopped(t *testing.T) {
	in := incoming(t)
	why := errors.New("the move was given up")
	ctx, cancel := context.WithCancelCause(context.Background())
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- in.Receive(ctx, []io.Reader{r}) }()
	cancel(why)
	if err := w.CloseWithError(errors.New("connection closed")); err != nil { // as the owner of the session does
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if !errors.Is(err, why) {
			t.Errorf("got %v", err)
		}
	case <-time.After(testenv.Patience):
		t.Fatal("it goes on")
	}
}

func TestExternalMountsAndTheInterfaceAreNamedInOrder(t *testing.T) {
	p := Plan{Mounts: map[string]string{"/z": "/node/z", "/a": "/node/a"}, Interface: &network.Interface{Name: "eth0", Host: "host", Bridge: "br0"}}
	mounts := []string{"mnt[/a]:/node/a", "mnt[/z]:/node/z"}
	if got := p.external(image.NetworkSaved); !slices.Equal(got, append(slices.Clone(mounts), "veth[eth0]:host")) {
		t.Errorf("got %v", got)
	}
	for _, n := range []image.Network{image.NetworkEmpty, image.NetworkInherited} {
		if got := p.external(n); !slices.Equal(got, mounts) {
			t.Errorf("CRIU is told of an interface that it does not make (%s): %v", n, got)
		}
	}
}

func TestCRIUGetsABindFromWhereItWasAttached(t *testing.T) {
	p := Plan{Mounts: map[string]string{"/a": "/home/u/a", "/z": "/node/z"}, Binds: []Bind{{namespaces.Mount{Source: "/home/u/a", Target: "/a"}, "/run/bind-0"}}}
	if got := p.external(image.NetworkEmpty); !slices.Equal(got, []string{"mnt[/a]:/run/bind-0", "mnt[/z]:/node/z"}) {
		t.Errorf("got %v", got)
	}
	if p.Mounts["/a"] != "/home/u/a" {
		t.Error("where it lies on the node is forgotten")
	}
}

func TestAParkWithoutImagesFailsBeforeAnythingIsStarted(t *testing.T) {
	dir := t.TempDir()
	plan := Plan{Images: filepath.Join(dir, "none"), Store: dir, Work: dir, RestoreEnv: namespaces.RestoreEnv{Cgroup: &cgroup.Cgroup{}}}
	for _, images := range []string{plan.Images, dir} { // none at all; none, and no page store
		plan.Images = images
		if p, err := Open(testenv.Bounded(t), plan, nil); err == nil || p != nil {
			t.Errorf("%s: %v %v", images, p, err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}
