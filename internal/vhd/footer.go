// Package vhd writes and reads the footer of a fixed VHD: the 512 bytes behind a raw image that make it a file which Azure,
// Hyper-V and qemu-img take for a disk. Layout: Microsoft's "Virtual Hard Disk Image Format Specification" 1.0; all numbers
// are big-endian.
//
// It promises that a footer made by Footer keeps the exact size: the creator application is one for which readers believe
// the size field instead of the geometry, which cannot express most sizes. It never touches the image itself and knows
// neither dynamic nor differencing VHDs.
package vhd

import (
	"encoding/binary"
	"time"

	"github.com/holdfast-backup/holdfast"
)

// FooterBytes is the length of the footer.
const FooterBytes = 512

const (
	cookie        = "conectix"
	features      = 2          // the reserved bit, always set
	version       = 0x00010000 // 1.0
	noDataOffset  = ^uint64(0) // a fixed disk has no further structures
	creator       = "win "     // Windows; with it qemu-img does not cut the size down to the geometry
	creatorMajor  = 0x000A0000 // Windows 10 and Server 2016 on
	creatorSystem = "Wi2k"
	fixedDisk     = 2

	sectorBytes = 512
)

// Offsets of the fields.
const (
	atFeatures     = 8
	atVersion      = 12
	atDataOffset   = 16
	atCreated      = 24
	atCreator      = 28
	atCreatorMajor = 32
	atSystem       = 36
	atOriginal     = 40
	atCurrent      = 48
	atGeometry     = 56
	atType         = 60
	atChecksum     = 64
	atID           = 68
)

// epoch is when VHD time starts: 2000-01-01 in UTC.
const epoch = 946684800

// Image is what a footer says about its image.
type Image struct {
	Size     int64     // bytes of the image, without the footer
	ID       [16]byte  // the image's GUID
	Created  time.Time // whole seconds, UTC
	Creator  string    // the creator application, four characters
	Geometry Geometry
}

// Footer returns the footer of an image of size bytes, which is a positive multiple of 512. created is cut to whole
// seconds; VHD time runs from 2000 to 2136, and times outside become the nearer end.
func Footer(size int64, id [16]byte, created time.Time) [FooterBytes]byte {
	holdfast.Invariant(size > 0 && size%sectorBytes == 0, "a VHD of %d bytes", size)
	var f [FooterBytes]byte
	copy(f[:], cookie)
	binary.BigEndian.PutUint32(f[atFeatures:], features)
	binary.BigEndian.PutUint32(f[atVersion:], version)
	binary.BigEndian.PutUint64(f[atDataOffset:], noDataOffset)
	binary.BigEndian.PutUint32(f[atCreated:], uint32(min(max(created.Unix()-epoch, 0), 1<<32-1)))
	copy(f[atCreator:], creator)
	binary.BigEndian.PutUint32(f[atCreatorMajor:], creatorMajor)
	copy(f[atSystem:], creatorSystem)
	binary.BigEndian.PutUint64(f[atOriginal:], uint64(size))
	binary.BigEndian.PutUint64(f[atCurrent:], uint64(size))
	geometry := GeometryOf(size)
	binary.BigEndian.PutUint16(f[atGeometry:], geometry.Cylinders)
	f[atGeometry+2], f[atGeometry+3] = geometry.Heads, geometry.SectorsPerTrack
	binary.BigEndian.PutUint32(f[atType:], fixedDisk)
	copy(f[atID:], id[:])
	binary.BigEndian.PutUint32(f[atChecksum:], checksum(f[:]))
	return f
}

// Parse reads the footer of a fixed VHD. Everything else, and a footer whose checksum is wrong, fails with KindInvalid and
// a message that names the fault.
func Parse(footer []byte) (Image, error) {
	if len(footer) != FooterBytes {
		return Image{}, holdfast.Errorf(holdfast.KindInvalid, "a VHD footer has %d bytes, not %d", FooterBytes, len(footer))
	}
	field := func(at int) uint32 { return binary.BigEndian.Uint32(footer[at:]) }
	if found := string(footer[:len(cookie)]); found != cookie {
		return Image{}, holdfast.Errorf(holdfast.KindInvalid, "no VHD footer: it starts with %q instead of %q", found, cookie)
	}
	if sum := checksum(footer); field(atChecksum) != sum {
		return Image{}, holdfast.Errorf(holdfast.KindInvalid, "the VHD footer's checksum is %08x, its bytes give %08x", field(atChecksum), sum)
	}
	if major := field(atVersion) >> 16; major != version>>16 {
		return Image{}, holdfast.Errorf(holdfast.KindInvalid, "the VHD format has the unknown version %d", major)
	}
	if field(atType) != fixedDisk {
		return Image{}, holdfast.Errorf(holdfast.KindInvalid, "the VHD has the type %d; only fixed ones (type %d) are read", field(atType), fixedDisk)
	}
	size := int64(binary.BigEndian.Uint64(footer[atCurrent:]))
	if size <= 0 || size%sectorBytes != 0 {
		return Image{}, holdfast.Errorf(holdfast.KindInvalid, "the VHD has the impossible size %d", uint64(size))
	}
	return Image{
		Size:    size,
		ID:      [16]byte(footer[atID : atID+16]),
		Created: time.Unix(epoch+int64(field(atCreated)), 0).UTC(),
		Creator: string(footer[atCreator : atCreator+4]),
		Geometry: Geometry{
			Cylinders: binary.BigEndian.Uint16(footer[atGeometry:]), Heads: footer[atGeometry+2], SectorsPerTrack: footer[atGeometry+3],
		},
	}, nil
}

// checksum is the complement of the sum of all bytes, the checksum field counting as zeros.
func checksum(footer []byte) uint32 {
	var sum uint32
	for i, b := range footer {
		if i < atChecksum || i >= atChecksum+4 {
			sum += uint32(b)
		}
	}
	return ^sum
}

// Geometry is a disk as an old BIOS sees it.
type Geometry struct {
	Cylinders              uint16
	Heads, SectorsPerTrack uint8
}

// sectorsMax is the largest disk that a geometry can express, about 127 GiB.
const sectorsMax = 65535 * 16 * 255

// GeometryOf returns the geometry for a size in bytes, by the rule in the specification's appendix: the smallest of a few
// track lengths with which the cylinders fit, rounded down.
func GeometryOf(size int64) Geometry {
	sectors := min(size/sectorBytes, sectorsMax)
	perTrack, heads, tracks := int64(255), int64(16), sectors/255
	if sectors < 65535*16*63 {
		perTrack, tracks = 17, sectors/17
		heads = max((tracks+1023)/1024, 4)
		if tracks >= heads*1024 || heads > 16 {
			perTrack, heads, tracks = 31, 16, sectors/31
		}
		if tracks >= heads*1024 {
			perTrack, heads, tracks = 63, 16, sectors/63
		}
	}
	return Geometry{Cylinders: uint16(tracks / heads), Heads: uint8(heads), SectorsPerTrack: uint8(perTrack)}
}
