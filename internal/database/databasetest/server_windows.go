package databasetest

import "errors"

const superuser = "postgres"

var errMissing = errors.New("tests start PostgreSQL on Unix alone")

type throwaway struct{ folder string }

func server() (*throwaway, error) { return nil, errMissing }
