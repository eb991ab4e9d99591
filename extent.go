package holdfast

// Extent is a byte range of a disk. Zero says that the range reads as zeros now (a cleared range of a diff), so that
// nothing needs to be fetched for it.
type Extent struct {
	Offset int64 // bytes from the start of the disk
	Length int64 // bytes, more than zero
	Zero   bool
}

// End returns the offset of the first byte after the extent.
func (e Extent) End() int64 { return e.Offset + e.Length }
