package main

import (
	"context"
	"errors"
)

func road(context.Context, options, disks, ceiling) error { return errors.New("no road yet") }
