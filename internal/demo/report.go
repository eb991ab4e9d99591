package demo

import (
	"fmt"
	"io"

	"github.com/holdfast-backup/holdfast/internal/cli"
)

// Tell prints the report for a person.
func (r Report) Tell(w io.Writer) error {
	p := &printer{w: w}
	p.line("")
	p.line("What happened")
	p.line("=============")
	p.line("")
	rows := [][]string{}
	for _, b := range r.Backups {
		var size int64
		for _, d := range b.Disks {
			size += d.SizeBytes
		}
		rows = append(rows, []string{
			b.VM.Name(), b.Round, fmt.Sprint(len(b.Disks)), cli.Bytes(size), cli.Bytes(b.ReadBytes), cli.Bytes(b.StoredBytes), saved(b), cli.Took(took(b.Took)), string(b.Point),
		})
	}
	p.table([]string{"MACHINE", "BACKUP", "DISKS", "SIZE", "READ", "STORED", "SAVED", "TIME", "RESTORE POINT"}, rows)
	p.line("")
	p.line("%s of disks, %s stored for %d restore points; each is complete by itself.", cli.Bytes(r.Disks), cli.Bytes(r.Stored), len(r.Backups))
	p.line("SAVED is what was read and needed no room: stored before (deduplication) or compressed away.")
	p.line("")
	p.line("Restored   %s in %s", r.Restore.VM.Name(), cli.Took(took(r.Restore.Took)))
	for _, d := range r.Restore.Disks {
		p.line("           %-28s %10s written, read back and compared with its root: %s", d.ID.Name(), cli.Bytes(d.Bytes), verdict(d.Equal, "equal", "DIFFERENT"))
	}
	p.line("Compared   %s with the source's disks, byte for byte: %s", cli.Bytes(r.Restore.ComparedBytes), verdict(r.Restore.Equal, "equal", "DIFFERENT"))
	p.line("Verified   %d objects, %s, every chunk of every restore point: %s", r.Verify.Checked, cli.Bytes(r.Verify.Bytes), verdict(r.Verify.OK, "sound", "DAMAGED"))
	p.line("Left over  %d snapshots in the cloud (one base for each of %d disks), %d active SAS: %s", r.Cloud.Snapshots, r.Cloud.Expected, r.Cloud.ActiveSAS,
		verdict(r.Cloud.Snapshots == r.Cloud.Expected && r.Cloud.ActiveSAS == 0, "no leak", "LEAK"))
	p.line("")
	p.line("%s, after %s.", verdict(r.OK, "All is well", "SOMETHING IS WRONG"), cli.Took(took(r.Took)))
	return p.err
}

// saved says how much of what a backup read needed no room.
func saved(b BackupReport) string {
	if b.ReadBytes == 0 {
		return "–"
	}
	return fmt.Sprintf("%.0f %%", 100*(1-float64(b.StoredBytes)/float64(b.ReadBytes)))
}

func verdict(ok bool, good, bad string) string {
	if ok {
		return good
	}
	return bad
}

// printer writes lines until one fails.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

func (p *printer) table(heading []string, rows [][]string) {
	if p.err == nil {
		p.err = cli.Table(p.w, heading, rows)
	}
}
