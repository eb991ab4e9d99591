package capture_test

import (
	"errors"

	"github.com/holdfast-backup/holdfast"
)

func asError(err error, target **holdfast.Error) bool { return errors.As(err, target) }
