package vdisk_test

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/twin/vdisk"
)

const killedDirEnv = "VDISK_TEST_KILLED_DIR"

// Steps of the process that gets killed: step n writes step n's bytes at a place that follows from n alone.
const (
	killedBlockBytes = 2048
	killedBlocks     = 64
)

func killedBlock(step int) (off int64, content []byte) {
	random := rand.New(rand.NewPCG(uint64(step), 1))
	off = random.Int64N(killedBlocks) * killedBlockBytes
	content = bytes.Repeat([]byte{byte(step), byte(step >> 8)}, killedBlockBytes/2)
	if step%5 == 0 {
		clear(content)
	}
	return off, content
}

// TestKilledProcess is the process that TestStore_Kill9_KeepsWhatReturned kills; run by itself it does nothing.
func TestKilledProcess(t *testing.T) {
	dir := os.Getenv(killedDirEnv)
	if dir == "" {
		return
	}
	store, err := vdisk.Open(dir)
	must(t, err)
	id := store.List()[0].ID
	for step := 1; ; step++ {
		off, content := killedBlock(step)
		if step%5 == 0 {
			must(t, store.Zero(id, off, killedBlockBytes))
		} else {
			write(t, store, id, off, content)
		}
		if step%50 == 0 {
			snapshot(t, store, id)
		}
		fmt.Printf("step %d\n", step)
	}
}

// TestStore_Kill9_KeepsWhatReturned proves that every write, clear and snapshot that returned before a kill -9 is there
// afterwards, and that the one under way did no harm elsewhere.
func TestStore_Kill9_KeepsWhatReturned(t *testing.T) {
	for _, killAfter := range []int{1, 73, 400} {
		dir := t.TempDir()
		store := openStore(t, dir)
		id := create(t, store, killedBlocks*killedBlockBytes)
		must(t, store.Close())

		returned := runAndKill(t, dir, killAfter)
		store = openStore(t, dir)
		want := make([]byte, killedBlocks*killedBlockBytes)
		for step := 1; step <= returned; step++ {
			off, content := killedBlock(step)
			copy(want[off:], content)
		}
		got := read(t, store, id, 0, len(want))
		underWay, _ := killedBlock(returned + 1)
		copy(got[underWay:underWay+killedBlockBytes], want[underWay:]) // may have happened or not, even in part
		if !bytes.Equal(got, want) {
			t.Fatalf("after a kill at step %d a returned write is lost", returned)
		}
		if snapshots := len(store.List()) - 1; snapshots < returned/50 || snapshots > returned/50+1 {
			t.Errorf("%d snapshots after %d steps", snapshots, returned)
		}
		must(t, store.Close())
	}
}

// runAndKill kills the process once it has told of that many steps and returns the last step that it told of.
func runAndKill(t *testing.T, dir string, killAfter int) (returned int) {
	t.Helper()
	command := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledProcess$")
	command.Env = append(os.Environ(), killedDirEnv+"="+dir)
	output, err := command.StdoutPipe()
	must(t, err)
	must(t, command.Start())
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		number, found := strings.CutPrefix(lines.Text(), "step ")
		if !found {
			t.Fatalf("the process said %q", lines.Text())
		}
		returned, err = strconv.Atoi(number)
		must(t, err)
		if returned == killAfter {
			must(t, command.Process.Kill())
		}
	}
	if err := command.Wait(); err == nil || returned < killAfter {
		t.Fatalf("the process ended by itself after step %d: %v", returned, err)
	}
	return returned
}

// layerFile returns the only file of that name among the layers.
func layerFile(t *testing.T, dir, name string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "layers", "*", name))
	must(t, err)
	if len(found) != 1 {
		t.Fatalf("%d files called %s", len(found), name)
	}
	return found[0]
}

func appendTo(t *testing.T, path string, tail []byte) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	_, err = file.Write(tail)
	must(t, err)
	must(t, file.Close())
}

// TestStore_TornTails_AreCutOff proves that half a last record, in a layer's map or in the catalogue, costs nothing and
// that what is written behind it survives the next restart.
func TestStore_TornTails_AreCutOff(t *testing.T) {
	dir := t.TempDir()
	store := openStore(t, dir)
	id := create(t, store, 64*kib)
	write(t, store, id, 512, bytes.Repeat([]byte{1}, 512))
	must(t, store.Close())

	for _, tail := range [][]byte{{1}, bytes.Repeat([]byte{0xFF}, 23), bytes.Repeat([]byte{0xFF}, 24)} {
		appendTo(t, layerFile(t, dir, "map"), tail)
		appendTo(t, filepath.Join(dir, "catalogue"), []byte(`0badc0de {"next":99,"gone":["vol`))
		store = openStore(t, dir)
		must(t, store.Zero(id, 8192, 512))
		write(t, store, id, 4096, bytes.Repeat([]byte{byte(len(tail))}, 512))
		create(t, store, 512)
		must(t, store.Close())

		store = openStore(t, dir)
		content := read(t, store, id, 0, int(64*kib))
		if content[512] != 1 || content[4096] != byte(len(tail)) {
			t.Errorf("tail of %d bytes: content lost", len(tail))
		}
		must(t, store.Close())
	}
	if n := len(openStore(t, dir).List()); n != 4 {
		t.Errorf("%d volumes, want 4", n)
	}
}

// TestStore_DamageBeforeTheEnd_IsReported proves that a flipped bit before the last record is not mistaken for a torn end.
func TestStore_DamageBeforeTheEnd_IsReported(t *testing.T) {
	dir := t.TempDir()
	store := openStore(t, dir)
	id := create(t, store, 64*kib)
	create(t, store, 64*kib)
	write(t, store, id, 0, make([]byte, 512))
	write(t, store, id, 4096, make([]byte, 512))
	must(t, store.Close())

	flip := func(path string) {
		content, err := os.ReadFile(path)
		must(t, err)
		content[10] ^= 4
		must(t, os.WriteFile(path, content, 0o600))
	}
	journal := layerFile(t, dir, "map")
	flip(journal)
	store = openStore(t, dir)
	if _, err := store.ReadAt(id, make([]byte, 512), 0); !holdfast.IsKind(err, holdfast.KindCorrupt) {
		t.Errorf("a damaged map: %v", err)
	}
	must(t, store.Close())
	flip(filepath.Join(dir, "catalogue"))
	if _, err := vdisk.Open(dir); !holdfast.IsKind(err, holdfast.KindCorrupt) {
		t.Errorf("a damaged catalogue: %v", err)
	}
}

// TestStore_LayersNobodyLists_AreRemovedByOpen proves that a deletion interrupted after its catalogue line leaks nothing.
func TestStore_LayersNobodyLists_AreRemovedByOpen(t *testing.T) {
	dir := t.TempDir()
	openStore(t, dir)
	stray := filepath.Join(t.TempDir(), "store", "layers", "layer-000000000099")
	must(t, os.MkdirAll(stray, 0o700))
	must(t, os.WriteFile(filepath.Join(stray, "data-0000"), []byte("left behind"), 0o600))
	openStore(t, filepath.Dir(filepath.Dir(stray)))
	if _, err := os.Stat(stray); !os.IsNotExist(err) {
		t.Errorf("the stray layer is still there: %v", err)
	}
}
