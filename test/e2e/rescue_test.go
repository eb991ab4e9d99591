package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// readers are the two programs that read repositories, and the password they get. They share no code.
type readers struct {
	t                *testing.T
	holdfast, rescue string
	password         string
}

// newReaders builds the second reader, in its own module.
func newReaders(t *testing.T) *readers {
	t.Helper()
	r := &readers{t: t, holdfast: program, rescue: filepath.Join(t.TempDir(), "rescue"), password: password}
	build := exec.Command("go", "build", "-o", r.rescue, ".")
	build.Dir = "../../rescue"
	build.Env = append(os.Environ(), "GOWORK=off")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("rescue cannot be built: %v\n%s", err, output)
	}
	return r
}

// run runs one of the programs and returns its exit code and what it printed.
func (r *readers) run(program string, arguments ...string) (code int, out []byte, log string) {
	r.t.Helper()
	var stdout, stderr bytes.Buffer
	command := exec.Command(program, arguments...)
	command.Env = append(os.Environ(), "HOLDFAST_REPO_PASSWORD="+r.password)
	command.Stdout, command.Stderr = &stdout, &stderr
	err := command.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		r.t.Fatal(err)
	}
	return command.ProcessState.ExitCode(), stdout.Bytes(), stderr.String()
}

// do runs one of the programs, which must succeed, and decodes its JSON.
func (r *readers) do(into any, program string, arguments ...string) {
	r.t.Helper()
	code, out, log := r.run(program, append(arguments, "--json")...)
	if code != 0 {
		r.t.Fatalf("%s %s: exit %d\n%s\n%s", filepath.Base(program), strings.Join(arguments, " "), code, out, log)
	}
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), into); err != nil {
		r.t.Fatalf("not JSON: %v\n%s", err, out)
	}
}

// listedPoint is what both programs say about a restore point.
type listedPoint struct {
	ID          string    `json:"id"`
	VM          string    `json:"vm"`
	Name        string    `json:"name"`
	Time        time.Time `json:"time"`
	Kind        string    `json:"kind"`
	Consistency string    `json:"consistency"`
	Disks       []struct {
		LUN       string `json:"lun"`
		Name      string `json:"name"`
		SizeBytes int64  `json:"sizeBytes"`
		Root      string `json:"root"`
	} `json:"disks"`
}

// compare proves that both programs list the same points, and that they bring the same bytes of every disk back. It returns
// the points, and hands the bytes to check.
func (r *readers) compare(repo string, check func(point, lun string, content []byte)) []listedPoint {
	r.t.Helper()
	var first, second []listedPoint
	r.do(&first, r.holdfast, "repo", "points", "--repo", repo)
	r.do(&second, r.rescue, "list", "--repo", repo)
	one, err := json.Marshal(first)
	must(r.t, err)
	other, err := json.Marshal(second)
	must(r.t, err)
	if !bytes.Equal(one, other) {
		r.t.Fatalf("the readers list different points:\n%s\n%s", one, other)
	}
	for _, p := range first {
		for _, d := range p.Disks {
			folder := r.t.TempDir()
			exported, extracted := filepath.Join(folder, "exported"), filepath.Join(folder, "extracted")
			r.do(new(any), r.holdfast, "repo", "export", "--repo", repo, "--point", p.ID, "--disk", d.LUN, "--out", exported)
			var result struct {
				Equal bool   `json:"equal"`
				Root  string `json:"root"`
			}
			r.do(&result, r.rescue, "extract", "--repo", repo, "--point", p.ID, "--disk", d.LUN, "--out", extracted)
			if !result.Equal || result.Root != d.Root {
				r.t.Errorf("%s: disk %s: rescue says %+v, the list says %s", p.ID, d.LUN, result, d.Root)
			}
			a, err := os.ReadFile(exported)
			must(r.t, err)
			b, err := os.ReadFile(extracted)
			must(r.t, err)
			if !bytes.Equal(a, b) || int64(len(a)) != d.SizeBytes {
				r.t.Errorf("%s: disk %s: the readers bring different bytes back (%d and %d of %d)", p.ID, d.LUN, len(a), len(b), d.SizeBytes)
			}
			check(p.ID, d.LUN, b)
			must(r.t, os.RemoveAll(folder))
		}
	}
	return first
}

// TestRescue_GoldenRepositories proves that both readers read every golden repository alike, of every version of the format.
func TestRescue_GoldenRepositories(t *testing.T) {
	t.Parallel()
	described, err := filepath.Glob("../../testdata/repos/*.json")
	if must(t, err); len(described) < 2 {
		t.Fatalf("only %v were found", described)
	}
	both := newReaders(t)
	for _, file := range described {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			var golden struct {
				Password string            `json:"password"`
				Points   []json.RawMessage `json:"points"`
			}
			content, err := os.ReadFile(file)
			must(t, err)
			must(t, json.Unmarshal(content, &golden))
			repo := filepath.Join(t.TempDir(), "repository")
			must(t, os.CopyFS(repo, os.DirFS(strings.TrimSuffix(file, ".json"))))
			r := &readers{t: t, holdfast: both.holdfast, rescue: both.rescue, password: golden.Password}
			points := r.compare(repo, func(string, string, []byte) {})
			if len(points) != len(golden.Points) {
				t.Errorf("%d points, want %d", len(points), len(golden.Points))
			}
		})
	}
}

// TestRescue_SourceBuildsOffline proves that the archive which is to be kept beside repositories holds all that the second
// reader is built from: it is unpacked elsewhere and built without a network and without modules of this machine.
func TestRescue_SourceBuildsOffline(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	archive := filepath.Join(folder, "rescue-source.tar.gz")
	call := func(dir, name string, arguments ...string) {
		t.Helper()
		command := exec.Command(name, arguments...)
		command.Dir = dir
		if strings.HasPrefix(dir, folder) {
			command.Env = append(os.Environ(), "GOPROXY=off", "GOWORK=off", "GOMODCACHE="+filepath.Join(folder, "none"))
		}
		if output, err := command.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, output)
		}
	}
	call("../..", "scripts/rescue-source.sh", archive)
	call(folder, "tar", "-xzf", archive)
	call(filepath.Join(folder, "rescue"), "go", "build", "-mod=vendor", "-o", filepath.Join(folder, "built"), ".")
	call(folder, filepath.Join(folder, "built"), "help")
	if _, err := os.Stat(filepath.Join(folder, "doc", "format.md")); err != nil {
		t.Error(err)
	}
}

// randomImage is an image file that changes between backups: its size is odd, and most of it is a hole.
type randomImage struct {
	path   string
	random *rand.Rand
}

// change writes, clears, grows and shrinks.
func (i randomImage) change(t *testing.T) []byte {
	t.Helper()
	file, err := os.OpenFile(i.path, os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	defer file.Close()
	info, err := file.Stat()
	must(t, err)
	size := info.Size()
	if size == 0 || i.random.IntN(4) == 0 {
		size = 1 + i.random.Int64N(24<<20)
		must(t, file.Truncate(size))
	}
	for range 1 + i.random.IntN(6) {
		piece := make([]byte, 1+i.random.Int64N(min(size, 400<<10)))
		if i.random.IntN(3) > 0 { // else zeros
			for n := range piece {
				piece[n] = byte(i.random.IntN(1 + i.random.IntN(256)))
			}
		}
		_, err := file.WriteAt(piece, i.random.Int64N(size-int64(len(piece))+1))
		must(t, err)
	}
	content, err := os.ReadFile(i.path)
	must(t, err)
	return content
}

// TestRescue_RandomRepository proves that both readers bring back what was backed up, point by point, from a repository that
// Holdfast has written and collected now, and that the second one does so without index, checkpoints and lists, too.
// RESCUE_SEED replays a run.
func TestRescue_RandomRepository(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	if text := os.Getenv("RESCUE_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		must(t, err)
	}
	t.Logf("RESCUE_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	r := newReaders(t)
	repo := filepath.Join(t.TempDir(), "repository")
	initFolder(t, repo)

	images := map[string]randomImage{}
	for _, name := range []string{"one", "two"} {
		images[name] = randomImage{path: filepath.Join(t.TempDir(), name+".img"), random: random}
	}
	contents := map[string][]byte{} // by point
	for range 8 {
		name := []string{"one", "two"}[random.IntN(2)]
		content := images[name].change(t)
		var made backupResult
		r.do(&made, r.holdfast, "image", "backup", "--repo", repo, "--name", name, images[name].path)
		contents[made.Point] = content
	}

	same := func(point, _ string, content []byte) {
		if !bytes.Equal(content, contents[point]) {
			t.Errorf("%s: the bytes are not those that were backed up", point)
		}
	}
	points := r.compare(repo, same)
	if len(points) != len(contents) {
		t.Errorf("%d points, want %d", len(points), len(contents))
	}
	for i, p := range points { // half of them go, so that packs go or are written anew, and hints become stale
		if i%2 == 0 {
			r.do(new(any), r.holdfast, "repo", "remove", "--repo", repo, "--point", p.ID)
			delete(contents, p.ID)
		}
	}
	r.do(new(any), r.holdfast, "repo", "collect", "--repo", repo)
	if points = r.compare(repo, same); len(points) != len(contents) {
		t.Errorf("after a collection %d points, want %d", len(points), len(contents))
	}
	for _, folder := range []string{"index", "state", "lists"} {
		must(t, os.RemoveAll(filepath.Join(repo, folder)))
	}
	for _, p := range slices.Backward(points[max(0, len(points)-3):]) {
		out := filepath.Join(t.TempDir(), "disk.img")
		r.do(new(any), r.rescue, "extract", "--repo", repo, "--point", p.ID, "--disk", "os", "--out", out)
		content, err := os.ReadFile(out)
		must(t, err)
		same(p.ID, "os", content)
	}
}
