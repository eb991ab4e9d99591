package estate

import (
	"math"
	"regexp"
	"strings"
)

const (
	scriptsMax     = 64
	durationMaxMs  = 24 * 60 * 60 * 1000
	outputBytesMax = 1 << 20
)

// Where script files and mount points lie.
var (
	linuxPath   = regexp.MustCompile(`^(/[A-Za-z0-9._ -]+)+$`)
	windowsPath = regexp.MustCompile(`(?i)^[a-z]:(\\[A-Za-z0-9._ ()-]+)+\.(exe|bat|cmd|wsf|js|vbs|ps1)$`)
)

func (c *checker) checkGuest(path string, vm VirtualMachine) error {
	g, windows := vm.Guest, vm.OS == "Windows"
	switch {
	case g.VSS != "" && !windows:
		return c.document.Errorf(path+".vss", "only Windows guests have VSS")
	case g.VSS != "" && g.VSS != VSSWorking && g.VSS != VSSFailing:
		return c.wrong(path+".vss", g.VSS, VSSWorking+" or "+VSSFailing)
	case g.SnapshotScripts && windows:
		return c.document.Errorf(path+".snapshotScripts", "only Linux guests have such scripts; Windows guests have VSS")
	case len(g.Mounts) > 0 && windows:
		return c.document.Errorf(path+".mounts", "only Linux guests have mount points")
	case len(g.Scripts) > scriptsMax:
		return c.document.Errorf(path+".scripts", "%d scripts; a guest has at most %d", len(g.Scripts), scriptsMax)
	}
	for i, m := range g.Mounts {
		if err := c.checkMount(path+"."+at("mounts", i), vm, m, g.Mounts[:i]); err != nil {
			return err
		}
	}
	for i, s := range g.Scripts {
		if err := c.checkScript(path+"."+at("scripts", i), vm, s, g.Scripts[:i]); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) checkMount(path string, vm VirtualMachine, m GuestMount, before []GuestMount) error {
	isData := false
	var names []string
	for _, d := range vm.DataDisks {
		isData = isData || equalFold(d.Name, m.Disk)
		names = append(names, d.Name)
	}
	if !isData {
		return c.unknown(path+".disk", m.Disk, "data disk of the VM", c.names(names))
	}
	if !linuxPath.MatchString(m.Path) {
		return c.wrong(path+".path", m.Path, "a path such as /data; the OS disk is mounted at /")
	}
	for _, other := range before {
		if other.Path == m.Path || equalFold(other.Disk, m.Disk) {
			return c.document.Errorf(path, "the path or the disk is mounted already")
		}
	}
	return nil
}

func (c *checker) checkScript(path string, vm VirtualMachine, s GuestScript, before []GuestScript) error {
	codeMin, codeMax, place, example := 0, 255, linuxPath, "a path such as /opt/before.sh"
	if vm.OS == "Windows" {
		codeMin, codeMax, place, example = math.MinInt32, math.MaxInt32, windowsPath, `a path such as C:\scripts\before.ps1, of an exe, bat, cmd, wsf, js, vbs or ps1`
	}
	switch {
	case !place.MatchString(s.Path):
		return c.wrong(path+".path", s.Path, example)
	case s.ExitCode < codeMin || s.ExitCode > codeMax:
		return c.document.Errorf(path+".exitCode", "%d is out of range; accepted: %d to %d", s.ExitCode, codeMin, codeMax)
	case s.DurationMs < 0 || s.DurationMs > durationMaxMs:
		return c.document.Errorf(path+".durationMs", "%d is out of range; accepted: 0 to %d", s.DurationMs, durationMaxMs)
	case s.OutputBytes < 0 || s.OutputBytes > outputBytesMax:
		return c.document.Errorf(path+".outputBytes", "%d is out of range; accepted: 0 to %d", s.OutputBytes, outputBytesMax)
	}
	for _, other := range before {
		if other.Path == s.Path || vm.OS == "Windows" && equalFold(other.Path, s.Path) {
			return c.document.Errorf(path+".path", "there is a script %q already", s.Path)
		}
	}
	return c.checkEffect(path+".effect", vm, s.Effect)
}

func (c *checker) checkEffect(path string, vm VirtualMachine, e GuestEffect) error {
	if e == (GuestEffect{}) {
		return nil
	}
	var names []string
	for _, d := range append([]Disk{vm.OSDisk}, vm.DataDisks...) {
		if equalFold(d.Name, e.Disk) && !d.Ephemeral {
			size := d.SizeGiB << 30
			switch {
			case e.Text == "":
				return c.wrong(path+".text", "", "what is written")
			case e.Offset < 0 || e.Offset > size-int64(len(e.Text)):
				return c.document.Errorf(path+".offset", "%d is out of range: the text does not fit the disk there", e.Offset)
			}
			return nil
		}
		names = append(names, d.Name)
	}
	return c.unknown(path+".disk", strings.TrimSpace(e.Disk), "disk of the VM", c.names(names))
}
