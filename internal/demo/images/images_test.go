package images_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	holdfast "github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/demo/images"
)

// partitionOffset is where the one partition of every image starts.
const partitionOffset = 1 << 20

// TestOpen proves that every image decompresses to the size, the hash and the places that its description states.
func TestOpen(t *testing.T) {
	for _, image := range images.All() {
		t.Run(image.Name, func(t *testing.T) {
			raw := read(t, image)
			if got := hash(raw); got != image.SHA256 {
				t.Fatalf("the disk's hash is %s, its description says %s", got, image.SHA256)
			}
			if signature := raw[510:512]; !bytes.Equal(signature, []byte{0x55, 0xaa}) {
				t.Errorf("sector 0 ends with %x, which is no partition table", signature)
			}
			if got := filesystem(raw[partitionOffset:]); got != image.Filesystem {
				t.Errorf("the partition holds %q, its description says %s", got, image.Filesystem)
			}
			checkPlaces(t, raw, image)
		})
	}
}

// TestOpen_UnknownName proves that a wrong name is told from a damaged image.
func TestOpen_UnknownName(t *testing.T) {
	if _, err := images.Open("nothing"); !holdfast.IsKind(err, holdfast.KindNotFound) {
		t.Fatalf("opening an unknown image gave %v, want kind notFound", err)
	}
}

// TestFilesystemsAreSound lets each filesystem's own checker look at the images.
func TestFilesystemsAreSound(t *testing.T) {
	checkers := map[string][]string{
		"ext4": {"e2fsck", "-f", "-n"},
		"ntfs": {"ntfsfix", "--no-action"},
		"xfs":  {"xfs_repair", "-n", "-f"},
	}
	for _, image := range images.All() {
		t.Run(image.Name, func(t *testing.T) {
			command := checkers[image.Filesystem]
			needTool(t, command[0])
			partition := filepath.Join(t.TempDir(), "partition")
			raw := read(t, image)
			if err := os.WriteFile(partition, raw[partitionOffset:len(raw)-partitionOffset], 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.CommandContext(t.Context(), command[0], append(command[1:], partition)...).CombinedOutput()
			if err != nil {
				t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
			}
		})
	}
}

// checkPlaces compares the bytes at every place with the hash in the description and wants places sorted and apart.
func checkPlaces(t *testing.T, raw []byte, image images.Image) {
	t.Helper()
	if len(image.Places) == 0 {
		t.Fatal("the description names no places")
	}
	end := int64(partitionOffset)
	for _, place := range image.Places {
		if place.Offset < end || place.Length <= 0 || place.Offset%4096 != 0 || place.Length%4096 != 0 {
			t.Fatalf("%s: the place %d+%d is out of order or not in whole blocks", place.File, place.Offset, place.Length)
		}
		end = place.Offset + place.Length
		if got := hash(raw[place.Offset:end]); got != place.SHA256 {
			t.Errorf("%s: the bytes at %d+%d have the hash %s, want %s", place.File, place.Offset, place.Length, got, place.SHA256)
		}
	}
}

// filesystem names what a partition holds by its magic number.
func filesystem(partition []byte) string {
	switch {
	case bytes.HasPrefix(partition, []byte("XFSB")):
		return "xfs"
	case bytes.Equal(partition[3:11], []byte("NTFS    ")):
		return "ntfs"
	case bytes.Equal(partition[1080:1082], []byte{0x53, 0xef}):
		return "ext4"
	default:
		return ""
	}
}

// read returns a whole disk, which must have the size that its description states.
func read(t *testing.T, image images.Image) []byte {
	t.Helper()
	r, err := images.Open(image.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	raw := make([]byte, image.RawBytes)
	if _, err := io.ReadFull(r, raw); err != nil {
		t.Fatal(err)
	}
	if n, err := r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Fatalf("after %d bytes the disk goes on or ends badly: %d bytes, %v", image.RawBytes, n, err)
	}
	return raw
}

func hash(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// needTool skips the test when a program is missing, or fails it where every tool must be there.
func needTool(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err == nil {
		return
	}
	if os.Getenv("HOLDFAST_REQUIRE_TOOLS") == "1" {
		t.Fatalf("%s is not installed, and HOLDFAST_REQUIRE_TOOLS=1 wants every tool", name)
	}
	t.Skipf("%s is not installed", name)
}
