package cost

// What is assumed of a backup, for the test that counts a real one.
const (
	WritesPerPoint = writesPerPoint
	ReadsPerPoint  = readsPerPoint
	OthersPerPoint = othersPerPoint
	ListsPerPoint  = listsPerPoint
	PackBytes      = packBytes
)
