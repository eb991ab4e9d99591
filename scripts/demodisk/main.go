// Command demodisk helps scripts/make-demo-images.sh: it makes the files that stand on the demo's disks, and it describes
// a finished disk image.
//
//	demodisk files ROLE DIRECTORY             writes the role's files: web, office or orders
//	demodisk proto DIRECTORY                  prints a mkfs.xfs prototype that copies the directory
//	demodisk describe NAME FILESYSTEM IMAGE DIRECTORY    prints the JSON that lies beside the image
//
// The same role gives the same bytes on every machine. The command is no part of the product.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "demodisk:", err)
		os.Exit(1)
	}
}

// run carries out one command line.
func run(arguments []string, out io.Writer) error {
	if len(arguments) == 0 {
		return errors.New("files, proto or describe is wanted")
	}
	verb, rest := arguments[0], arguments[1:]
	switch {
	case verb == "files" && len(rest) == 2:
		return writeFiles(rest[0], rest[1])
	case verb == "proto" && len(rest) == 1:
		return writePrototype(out, rest[0])
	case verb == "describe" && len(rest) == 4:
		return describe(out, subject{Name: rest[0], Filesystem: rest[1], Image: rest[2], Directory: rest[3]})
	default:
		return fmt.Errorf("cannot run %q with %d arguments", verb, len(rest))
	}
}
