// Command rescue is the second reader of Holdfast repositories: it lists restore points and brings disks back, and shares no
// code with Holdfast. It was written from doc/format.md alone, so that page and program prove one another; the numbers in
// parentheses (§5) are the page's sections. It is for the day on which there is nothing left but storage and a key.
//
// It promises that a disk of which it says "equal" has exactly the content that was backed up: each chunk is held against
// its id, and the finished file is read back and its root computed anew. It reads repositories in local folders, writes
// nothing to them, and goes on where it can: without an index, without checkpoints, with holes in the log.
//
// It must never trust a byte before it is proven, take more memory than a hostile repository should get, or import anything
// of Holdfast.
//
// Read the files in this order: main, failure; then, as a disk is found: folder, keys, entry, fold, repository, manifest;
// then, as it is read: container, tree, index, packs; at last extract and prove.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

const usage = `rescue reads Holdfast repositories with nothing but their files and a key.

  rescue list      --repo DIR                                         the restore points
  rescue extract   --repo DIR --point ID --disk LUN|os --out FILE     a disk, as a raw image
  rescue documents --repo DIR --point ID                              what Azure said about the VM, as JSON

  --repo DIR                  a folder with the folders log, keys, data, tree, index, points and lists; given again, further
                              copies of the same repository, asked where the first one is damaged
  --password-file FILE        its first line is the password; or set HOLDFAST_REPO_PASSWORD
  --repository-key-file FILE  the repository key itself, where a vault unwrapped it: 32 bytes, or their hex or base64
  --dropped-key               take a key that was dropped since, and read what was written before
  --point ID                  a restore point, or the beginning of its id
  --disk LUN                  os, or the number of a data disk
  --keep-going                write zeros for what is lost, and say where; the exit code is 4 then
  --json                      the result, or the failure, as one JSON value on the last line

Examples:
  HOLDFAST_REPO_PASSWORD='correct horse' rescue list --repo backups
  rescue extract --repo backups --password-file password.txt --point 20260301-120000-093e4e4a --disk os --out os.img

Exit codes: 0 done, 1 failed, 2 bad input, or written by a newer version, 3 not found, 4 damage was found, 6 wrong key.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], streams{out: os.Stdout, log: os.Stderr, getenv: os.Getenv})
	stop()
	os.Exit(code)
}

// streams are the program's surroundings: results go to out, everything else to log.
type streams struct {
	out, log io.Writer
	getenv   func(name string) string
}

// options are all flags.
type options struct {
	repos             []string
	passwordFile      string
	repositoryKeyFile string
	point, disk, file string
	keepGoing, json   bool
	droppedKey        bool
}

// command is a verb. It returns a result for --json, a way to print it for people, and whether damage was met on the way.
type command func(ctx context.Context, r *repository, o options, log io.Writer) (result, error)

type result struct {
	value   any
	print   func(out io.Writer) error
	damaged bool
}

// commands are the verbs.
var commands = map[string]command{"list": list, "extract": extract, "documents": documents}

// run is the program: it returns the exit code.
func run(ctx context.Context, arguments []string, s streams) int {
	if len(arguments) == 0 || arguments[0] == "help" || arguments[0] == "-h" || arguments[0] == "--help" {
		fmt.Fprint(s.out, usage)
		return 0
	}
	o, err := parseOptions(arguments[1:])
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(s.out, usage)
		return 0
	}
	var done result
	if err == nil {
		done, err = perform(ctx, arguments[0], o, s)
	}
	if err == nil {
		err = done.show(o.json, s.out)
	}
	switch {
	case err != nil:
		return fail(asFailure(err), o.json, s)
	case done.damaged:
		return exitCode(kindCorrupt)
	default:
		return 0
	}
}

// perform opens the repository and carries the command out.
func perform(ctx context.Context, verb string, o options, s streams) (result, error) {
	carryOut, known := commands[verb]
	if !known {
		return result{}, failed(kindInvalid, "there is no command %q", verb).hinting("list, extract or documents; rescue help says more")
	}
	if verb != "list" && o.point == "" {
		return result{}, failed(kindInvalid, "no restore point was named").about("point").hinting("rescue list shows them")
	}
	if verb == "extract" && o.file == "" {
		return result{}, failed(kindInvalid, "no file was named to write to").about("out").hinting("--out FILE")
	}
	with, err := readSecret(o, s.getenv)
	if err != nil {
		return result{}, err
	}
	f, err := openFolders(o.repos)
	if err != nil {
		return result{}, err
	}
	r, err := openRepository(f, with)
	if err != nil {
		return result{}, err
	}
	done, err := carryOut(ctx, r, o, s.log)
	for _, warning := range r.warnings {
		fmt.Fprintln(s.log, "damage:", warning)
	}
	for _, err := range r.lostRuns {
		fmt.Fprintln(s.log, "damage:", err)
	}
	return done, err
}

// parseOptions reads flags; with one dash or two.
func parseOptions(arguments []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("rescue", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Func("repo", "", func(value string) error {
		o.repos = append(o.repos, value)
		return nil
	})
	flags.StringVar(&o.passwordFile, "password-file", "", "")
	flags.StringVar(&o.repositoryKeyFile, "repository-key-file", "", "")
	flags.StringVar(&o.point, "point", "", "")
	flags.StringVar(&o.disk, "disk", "", "")
	flags.StringVar(&o.file, "out", "", "")
	flags.BoolVar(&o.keepGoing, "keep-going", false, "")
	flags.BoolVar(&o.droppedKey, "dropped-key", false, "")
	flags.BoolVar(&o.json, "json", false, "")
	err := flags.Parse(arguments)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return o, err
	case err != nil:
		return o, failed(kindInvalid, "%v", err).hinting("rescue help names all flags")
	case flags.NArg() > 0:
		return o, failed(kindInvalid, "%q is too much", flags.Arg(0)).hinting("everything is given by flags; rescue help names them")
	}
	return o, nil
}

// readSecret reads what opens the repository; a file counts more than the environment.
func readSecret(o options, getenv func(string) string) (secret, error) {
	const fileMax = 1 << 20
	with := secret{password: getenv("HOLDFAST_REPO_PASSWORD"), dropped: o.droppedKey}
	if o.passwordFile != "" {
		content, err := readWhole(o.passwordFile, fileMax)
		if err != nil {
			return with, failed(kindInvalid, "%v", err).about("password-file")
		}
		first, _, _ := strings.Cut(string(content), "\n")
		with.password = strings.TrimSuffix(first, "\r")
	}
	if o.repositoryKeyFile != "" {
		content, err := readWhole(o.repositoryKeyFile, fileMax)
		if err != nil {
			return with, failed(kindInvalid, "%v", err).about("repository-key-file")
		}
		with.repositoryKey, err = parseRepositoryKey(content)
		return with, err
	}
	return with, nil
}

// show writes a result.
func (r result) show(asJSON bool, out io.Writer) error {
	if !asJSON {
		return r.print(out)
	}
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(r.value)
}

// fail tells a failure and returns its exit code.
func fail(f *failure, asJSON bool, s streams) int {
	if asJSON {
		done := result{value: map[string]*failure{"error": f}}
		if err := done.show(true, s.out); err != nil {
			fmt.Fprintln(s.log, "rescue:", err)
		}
		return exitCode(f.Kind)
	}
	fmt.Fprintln(s.log, "rescue:", f.Message)
	if f.Hint != "" {
		fmt.Fprintln(s.log, "       ", f.Hint)
	}
	return exitCode(f.Kind)
}

// listed is a restore point as rescue list shows it. Problem says why its manifest cannot be read.
type listed struct {
	ID          string       `json:"id"`
	VM          string       `json:"vm"`
	Name        string       `json:"name"`
	Time        *time.Time   `json:"time"`
	Kind        string       `json:"kind"`
	Consistency string       `json:"consistency"`
	Disks       []listedDisk `json:"disks"`
	Problem     string       `json:"problem"`
}

type listedDisk struct {
	LUN       string `json:"lun"`
	Name      string `json:"name"`
	SizeBytes int64  `json:"sizeBytes"`
	Root      string `json:"root"`
}

// list shows the restore points in the order in which they were published.
func list(ctx context.Context, r *repository, _ options, _ io.Writer) (result, error) {
	points := make([]listed, 0, len(r.state.points))
	damaged := len(r.warnings) > 0
	for _, p := range r.state.points {
		if err := context.Cause(ctx); err != nil {
			return result{}, err
		}
		one := listed{ID: p.id, Disks: []listedDisk{}}
		m, err := r.manifestOf(p)
		if isNewer(err) {
			return result{}, err
		}
		if err != nil {
			one.Problem, damaged = err.Error(), true
			m, err = r.summaryOf(p)
		}
		if err == nil {
			one.fill(m)
		}
		points = append(points, one)
	}
	return result{value: points, print: func(out io.Writer) error { return table(points, out) }, damaged: damaged}, nil
}

// fill takes what a manifest or summary says.
func (l *listed) fill(m *manifest) {
	l.VM, l.Name, l.Time, l.Kind, l.Consistency = m.VM, m.Name, &m.Time, m.Kind, m.Consistency
	for _, d := range m.Disks {
		l.Disks = append(l.Disks, listedDisk{LUN: d.LUN, Name: d.Name, SizeBytes: d.SizeBytes, Root: d.Root})
	}
}

// table prints points for people. Names are quoted where they could upset a terminal.
func table(points []listed, out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "POINT\tTIME\tVM\tDISKS")
	for _, p := range points {
		var disks []string
		for _, d := range p.Disks {
			disks = append(disks, fmt.Sprintf("%s (%d bytes)", printable(d.LUN), d.SizeBytes))
		}
		if p.Problem != "" {
			disks = append(disks, "damaged: "+printable(p.Problem))
		}
		when := ""
		if p.Time != nil {
			when = p.Time.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", printable(p.ID), when, printable(p.VM), strings.Join(disks, ", "))
	}
	return w.Flush()
}

// printable replaces what is not to be printed.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, text)
}

// extract brings a disk back.
func extract(ctx context.Context, r *repository, o options, log io.Writer) (result, error) {
	p, err := r.point(o.point)
	if err != nil {
		return result{}, err
	}
	m, err := r.manifestOf(p)
	if err != nil {
		return result{}, err
	}
	d, err := m.disk(o.disk)
	if err != nil {
		return result{}, err
	}
	c := extractionConfig{repository: r, point: p, keepGoing: o.keepGoing, progress: everyGiB(log)}
	done, err := extractDisk(ctx, c, d, o.file)
	if err != nil {
		return result{}, err
	}
	show := func(out io.Writer) error {
		if done.Equal {
			_, err := fmt.Fprintf(out, "%s: %d bytes, equal to disk %s of %s\n", done.File, done.SizeBytes, printable(done.Disk), done.Point)
			return err
		}
		for _, s := range done.Lost {
			if _, err := fmt.Fprintf(out, "lost: %d bytes at %d\n", s.Length, s.Offset); err != nil {
				return err
			}
		}
		_, err := fmt.Fprintf(out, "%s: %d bytes, NOT equal to disk %s of %s: zeros stand where the ranges above are lost\n",
			done.File, done.SizeBytes, printable(done.Disk), done.Point)
		return err
	}
	return result{value: done, print: show, damaged: !done.Equal}, nil
}

// everyGiB tells progress.
func everyGiB(log io.Writer) func(written int64) {
	told := int64(0)
	return func(written int64) {
		if gib := written >> 30; gib > told {
			told = gib
			fmt.Fprintf(log, "%d GiB written\n", gib)
		}
	}
}

// documents prints what the Azure API said about the VM and its parts.
func documents(_ context.Context, r *repository, o options, _ io.Writer) (result, error) {
	p, err := r.point(o.point)
	if err != nil {
		return result{}, err
	}
	m, err := r.manifestOf(p)
	if err != nil {
		return result{}, err
	}
	if m.Documents == nil {
		m.Documents = []document{}
	}
	show := func(out io.Writer) error {
		encoder := json.NewEncoder(out)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		return encoder.Encode(m.Documents)
	}
	return result{value: m.Documents, print: show}, nil
}
