package sh

import (
	"strings"
	"time"
)

// Files are the files of a guest that its scripts see, by path.
type Files map[string]File

// File is a file, a folder, or a script file of the estate.
type File struct {
	Text    string    `json:"text,omitempty"`
	Folder  bool      `json:"folder,omitempty"`
	Program bool      `json:"program,omitempty"`
	Changed time.Time `json:"changed"`
}

// Read returns the text of a file.
func (f Files) Read(path string) (string, bool) {
	file, found := f[path]
	return file.Text, found && !file.Folder
}

// Write replaces a file.
func (f Files) Write(path, text string, now time.Time) { f[path] = File{Text: text, Changed: now} }

// Remove takes a file away, or a folder with what is in it.
func (f Files) Remove(path string) {
	delete(f, path)
	for other := range f {
		if strings.HasPrefix(other, path+"/") {
			delete(f, other)
		}
	}
}
