package e2e

import (
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminalPatience is how long a command may take on a terminal before it counts as hanging: the demo takes a minute where others keep the cores busy.
const terminalPatience = 3 * time.Minute

// openTerminal makes a pseudo-terminal of 100 columns: what is written to screen is read from control.
func openTerminal(t *testing.T) (control, screen *os.File) {
	t.Helper()
	control, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		needs(t, "there are no pseudo-terminals: "+err.Error())
	}
	t.Cleanup(func() { _ = control.Close() }) // only read from
	must(t, unix.IoctlSetPointerInt(int(control.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(control.Fd()), unix.TIOCGPTN)
	must(t, err)
	screen, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	must(t, err)
	must(t, unix.IoctlSetWinsize(int(screen.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 100}))
	return control, screen
}
