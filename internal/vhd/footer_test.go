package vhd_test

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/vhd"
)

const (
	mib = int64(1) << 20
	gib = int64(1) << 30
)

var (
	testID      = [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	testCreated = time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
)

// TestFooter_Parse_GivesBackWhatWentIn proves that the two directions agree for sizes up to 64 TiB.
func TestFooter_Parse_GivesBackWhatWentIn(t *testing.T) {
	for _, size := range []int64{512, mib, 20 * mib, 127 * gib, 32 << 40, 64 << 40} {
		footer := vhd.Footer(size, testID, testCreated)
		got, err := vhd.Parse(footer[:])
		if err != nil {
			t.Fatal(err)
		}
		want := vhd.Image{Size: size, ID: testID, Created: testCreated, Creator: "win ", Geometry: vhd.GeometryOf(size)}
		if got != want {
			t.Errorf("size %d: %+v, want %+v", size, got, want)
		}
	}
}

// TestFooter_Fields_LieWhereTheSpecificationSays proves the layout independently of Parse.
func TestFooter_Fields_LieWhereTheSpecificationSays(t *testing.T) {
	footer := vhd.Footer(40*mib, testID, testCreated)
	be := binary.BigEndian
	for name, row := range map[string]struct{ got, want uint64 }{
		"features":      {uint64(be.Uint32(footer[8:])), 2},
		"version":       {uint64(be.Uint32(footer[12:])), 0x10000},
		"data offset":   {be.Uint64(footer[16:]), 0xFFFFFFFFFFFFFFFF},
		"time":          {uint64(be.Uint32(footer[24:])), uint64(testCreated.Sub(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).Seconds())},
		"original size": {be.Uint64(footer[40:]), uint64(40 * mib)},
		"current size":  {be.Uint64(footer[48:]), uint64(40 * mib)},
		"cylinders":     {uint64(be.Uint16(footer[56:])), 963}, // 81,920 sectors, 17 a track: 4,818 tracks on 5 heads
		"type":          {uint64(be.Uint32(footer[60:])), 2},
		"saved state":   {uint64(footer[84]), 0},
	} {
		if row.got != row.want {
			t.Errorf("%s is %#x, want %#x", name, row.got, row.want)
		}
	}
	if string(footer[:8]) != "conectix" || string(footer[68:84]) != string(testID[:]) {
		t.Error("cookie or id is not in its place")
	}
}

// TestFooter_TimesOutsideVHDTime_BecomeItsEnds proves that no time wraps around.
func TestFooter_TimesOutsideVHDTime_BecomeItsEnds(t *testing.T) {
	early := vhd.Footer(mib, testID, time.Unix(0, 0))
	late := vhd.Footer(mib, testID, time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC))
	if binary.BigEndian.Uint32(early[24:]) != 0 || binary.BigEndian.Uint32(late[24:]) != 0xFFFFFFFF {
		t.Error("a time outside 2000 to 2136 wrapped around")
	}
}

// TestParse_DamagedFooter_NamesTheFault proves that every flipped bit is noticed and that faults with a right checksum are
// told apart.
func TestParse_DamagedFooter_NamesTheFault(t *testing.T) {
	sound := vhd.Footer(mib, testID, testCreated)
	for bit := range len(sound) * 8 {
		damaged := sound
		damaged[bit/8] ^= 1 << (bit % 8)
		if _, err := vhd.Parse(damaged[:]); !holdfast.IsKind(err, holdfast.KindInvalid) {
			t.Fatalf("bit %d flipped: %v", bit, err)
		}
	}
	if _, err := vhd.Parse(sound[:511]); !holdfast.IsKind(err, holdfast.KindInvalid) {
		t.Errorf("a short footer: %v", err)
	}
	for at, fault := range map[int]string{13: "version", 63: "type", 55: "size"} {
		damaged := sound
		damaged[at]++ // one more here is one less in the checksum
		binary.BigEndian.PutUint32(damaged[64:], binary.BigEndian.Uint32(damaged[64:])-1)
		if _, err := vhd.Parse(damaged[:]); err == nil || !strings.Contains(err.Error(), fault) {
			t.Errorf("wrong %s: %v", fault, err)
		}
	}
}

// TestGeometryOf_KnownSizes_MatchesTheSpecification takes rows worked out by hand from the appendix of the specification.
func TestGeometryOf_KnownSizes_MatchesTheSpecification(t *testing.T) {
	for size, want := range map[int64]vhd.Geometry{
		2 * mib:        {Cylinders: 60, Heads: 4, SectorsPerTrack: 17},
		100 * mib:      {Cylinders: 1003, Heads: 12, SectorsPerTrack: 17},
		200 * mib:      {Cylinders: 825, Heads: 16, SectorsPerTrack: 31},
		gib:            {Cylinders: 2080, Heads: 16, SectorsPerTrack: 63},
		64 * gib:       {Cylinders: 32896, Heads: 16, SectorsPerTrack: 255},
		4 * 1024 * gib: {Cylinders: 65535, Heads: 16, SectorsPerTrack: 255},
	} {
		if got := vhd.GeometryOf(size); got != want {
			t.Errorf("%d bytes: %+v, want %+v", size, got, want)
		}
	}
}

// TestFooter_QemuImg_SeesTheExactSize proves that another implementation takes the file for a VHD of exactly our size, also
// where the geometry cannot express it.
func TestFooter_QemuImg_SeesTheExactSize(t *testing.T) {
	tool, err := exec.LookPath("qemu-img")
	if err != nil {
		if os.Getenv("HOLDFAST_REQUIRE_TOOLS") == "1" {
			t.Fatalf("qemu-img is required: %v", err)
		}
		t.Skip("qemu-img is not installed (Debian: qemu-utils)")
	}
	for _, size := range []int64{20 * mib, 33 * mib, 100*gib + mib, 1023 * gib} {
		footer := vhd.Footer(size, testID, testCreated)
		path := filepath.Join(t.TempDir(), "image.vhd")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteAt(footer[:], size); err != nil {
			t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
		output, err := exec.CommandContext(t.Context(), tool, "info", "-f", "vpc", "--output=json", path).Output()
		if err != nil {
			t.Fatalf("qemu-img: %v", err)
		}
		var seen struct {
			Size int64 `json:"virtual-size"`
		}
		if err := json.Unmarshal(output, &seen); err != nil {
			t.Fatal(err)
		}
		if seen.Size != size {
			t.Errorf("qemu-img sees %d bytes, want %d", seen.Size, size)
		}
	}
}
