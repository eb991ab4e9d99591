package archtest

import (
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strings"
	"testing"
)

// The limits of doc/architecture.md.
const (
	packageLinesMax     = 3000 // source lines of a package: neither blank nor comment alone, tests aside
	nounLinesMax        = 2000 // of the root package
	functionLinesWanted = 70   // more is a straight road, or wrong
	functionLinesMax    = 100  // more wants a comment that begins "Long:" and says why
	longShareMax        = 0.02 // share of functions over functionLinesWanted
	parametersMax       = 5    // a context aside
	methodsMax          = 7    // of an interface
)

// documentedWord begins the sentence that excuses a function over functionLinesMax.
const documentedWord = "Long: "

// check looks at one package and returns what is wrong with it, a line each.
type check func(all *tree, p goPackage) []string

// holdAgainst reports what a check finds in the module.
func holdAgainst(t *testing.T, c check) {
	t.Helper()
	all := source(t)
	for _, p := range all.packages {
		for _, problem := range c(all, p) {
			t.Error(problem)
		}
	}
}

func TestPackagesSayWhatTheyAreFor(t *testing.T)        { holdAgainst(t, packageComment) }
func TestPackagesAreSmall(t *testing.T)                 { holdAgainst(t, packageSize) }
func TestFunctionsAreShort(t *testing.T)                { holdAgainst(t, functionSize) }
func TestInterfacesAreNarrow(t *testing.T)              { holdAgainst(t, interfaceSize) }
func TestNothingHappensByImporting(t *testing.T)        { holdAgainst(t, importEffects) }
func TestPackageVariablesAreConstants(t *testing.T)     { holdAgainst(t, packageVariables) }
func TestPackageVariablesAreNeverAssigned(t *testing.T) { holdAgainst(t, assignments) }
func TestForbiddenCalls(t *testing.T)                   { holdAgainst(t, calls) }

// TestFewFunctionsAreLong bounds the share of functions over functionLinesWanted lines.
func TestFewFunctionsAreLong(t *testing.T) {
	all := source(t)
	var lengths []int
	long := 0
	for _, p := range all.packages {
		for _, function := range functionsOf(p) {
			n := all.bodyLines(function)
			lengths = append(lengths, n)
			if n > functionLinesWanted {
				long++
			}
		}
	}
	if share := float64(long) / float64(len(lengths)); share > longShareMax {
		t.Errorf("%d of %d functions are longer than %d lines: %.1f %%, at most %.0f %% are wanted",
			long, len(lengths), functionLinesWanted, share*100, longShareMax*100)
	}
	slices.Sort(lengths)
	t.Logf("%d functions, median %d lines, longest %d, %d over %d", len(lengths), lengths[len(lengths)/2], lengths[len(lengths)-1], long, functionLinesWanted)
}

// packageComment wants a package comment in exactly one file. Where all files are tests, a test file carries it.
func packageComment(_ *tree, p goPackage) []string {
	var documented, problems []string
	for _, f := range p.files {
		if f.test && !p.testsAlone() || f.syntax.Doc == nil {
			continue
		}
		documented = append(documented, f.name)
		want := "Package " + strings.TrimSuffix(f.syntax.Name.Name, "_test") + " "
		if f.syntax.Name.Name == "main" {
			want = "Command " + path.Base(p.path) + " "
		}
		if !strings.HasPrefix(f.syntax.Doc.Text(), want) {
			problems = append(problems, fmt.Sprintf("%s: the package comment does not begin with %q", f.name, want))
		}
	}
	if len(documented) != 1 {
		problems = append(problems, fmt.Sprintf("%s: the package comment stands in %d files %v, want one\n\t"+
			"because: a stranger reads it first", p.path, len(documented), documented))
	}
	return problems
}

// packageSize wants packages that fit into a head.
func packageSize(_ *tree, p goPackage) []string {
	limit := packageLinesMax
	if p.path == "." {
		limit = nounLinesMax
	}
	lines := 0
	for _, f := range p.files {
		if !f.test {
			lines += f.sourceLines
		}
	}
	if lines <= limit {
		return nil
	}
	return []string{fmt.Sprintf("%s: %d source lines, at most %d are wanted; split it", p.path, lines, limit)}
}

// functionsOf returns the functions with a body that a package declares outside tests.
func functionsOf(p goPackage) []*ast.FuncDecl {
	var found []*ast.FuncDecl
	for _, f := range p.files {
		if f.test {
			continue
		}
		for _, declaration := range f.syntax.Decls {
			if function, ok := declaration.(*ast.FuncDecl); ok && function.Body != nil {
				found = append(found, function)
			}
		}
	}
	return found
}

// bodyLines returns the lines between a function's braces.
func (t *tree) bodyLines(function *ast.FuncDecl) int {
	first, last := t.files.Position(function.Body.Lbrace).Line, t.files.Position(function.Body.Rbrace).Line
	return max(0, last-first-1)
}

// functionSize wants functions without long lists of parameters, and a reason for very long ones.
func functionSize(all *tree, p goPackage) []string {
	var problems []string
	for _, function := range functionsOf(p) {
		if n := parameters(function); n > parametersMax {
			problems = append(problems, fmt.Sprintf("%s: %s takes %d parameters, at most %d are wanted; make a struct",
				all.position(function.Pos()), function.Name.Name, n, parametersMax))
		}
		if n := all.bodyLines(function); n > functionLinesMax && !strings.Contains(function.Doc.Text(), documentedWord) {
			problems = append(problems, fmt.Sprintf("%s: %s has %d lines; more than %d want a sentence in its comment that begins %q",
				all.position(function.Pos()), function.Name.Name, n, functionLinesMax, documentedWord))
		}
	}
	return problems
}

// parameters counts a function's parameters, a context aside.
func parameters(function *ast.FuncDecl) int {
	n := 0
	for _, field := range function.Type.Params.List {
		if selector, ok := field.Type.(*ast.SelectorExpr); !ok || mentioned(selector) != "context.Context" {
			n += max(1, len(field.Names))
		}
	}
	return n
}

// interfaceSize wants interfaces as small as their need.
func interfaceSize(all *tree, p goPackage) []string {
	var problems []string
	for _, f := range p.files {
		ast.Inspect(f.syntax, func(node ast.Node) bool {
			spec, ok := node.(*ast.TypeSpec)
			if !ok {
				return true
			}
			kind, ok := spec.Type.(*ast.InterfaceType)
			if !ok {
				return true
			}
			if n := kind.Methods.NumFields(); n > methodsMax {
				problems = append(problems, fmt.Sprintf("%s: interface %s has %d methods, at most %d are wanted",
					all.position(spec.Pos()), spec.Name.Name, n, methodsMax))
			}
			return true
		})
	}
	return problems
}

// importEffects forbids init functions and blank imports.
// importsOfData bring data into the program and do nothing else.
var importsOfData = []string{`"embed"`, `"time/tzdata"`}

func importEffects(all *tree, p goPackage) []string {
	var problems []string
	for _, f := range p.files {
		for _, declaration := range f.syntax.Decls {
			if function, ok := declaration.(*ast.FuncDecl); ok && function.Recv == nil && function.Name.Name == "init" {
				problems = append(problems, all.position(function.Pos())+": func init\n\tbecause: wiring happens in one place, in plain code")
			}
		}
		for _, spec := range f.syntax.Imports {
			if spec.Name != nil && spec.Name.Name == "_" && !slices.Contains(importsOfData, spec.Path.Value) {
				problems = append(problems, all.position(spec.Pos())+": blank import of "+spec.Path.Value+"\n\tbecause: nothing may happen by importing")
			}
		}
	}
	return problems
}

// packageVariables allows package variables for errors, tables, patterns, embedded files and compile-time assertions.
func packageVariables(all *tree, p goPackage) []string {
	var problems []string
	for _, f := range p.files {
		if f.test {
			continue
		}
		for _, spec := range declaredVariables(f.syntax) {
			for i, name := range spec.Names {
				if !constantLike(spec, i) {
					problems = append(problems, fmt.Sprintf("%s: package variable %s is neither an error, a table, a pattern nor an assertion\n\t"+
						"because: state belongs to a value that somebody owns", all.position(name.Pos()), name.Name))
				}
			}
		}
	}
	return problems
}

// declaredVariables returns the variables that a file declares at the top level.
func declaredVariables(file *ast.File) []*ast.ValueSpec {
	var found []*ast.ValueSpec
	for _, declaration := range file.Decls {
		group, ok := declaration.(*ast.GenDecl)
		if !ok || group.Tok != token.VAR {
			continue
		}
		for _, spec := range group.Specs {
			value, ok := spec.(*ast.ValueSpec)
			if !ok {
				continue
			}
			if value.Doc == nil {
				value.Doc = group.Doc
			}
			found = append(found, value)
		}
	}
	return found
}

// makers are the calls that may fill a package variable: they make a value that nobody changes afterwards.
var makers = []string{
	"regexp.MustCompile", "strings.Fields", "strings.NewReplacer", "time.Date", "bytes.Repeat",
	"base64.NewEncoding", "template.Must", "netip.MustParseAddr", "netip.MustParsePrefix", "sync.OnceValues",
}

// constantLike reports whether the i-th name of a declaration is a package variable that the house style allows.
func constantLike(spec *ast.ValueSpec, i int) bool {
	name := spec.Names[i].Name
	switch {
	case name == "_":
		return true
	case spec.Doc != nil && strings.Contains(directives(spec.Doc), "//go:embed"):
		return true
	case len(spec.Values) == 0:
		_, array := spec.Type.(*ast.ArrayType) // an array of zeros that stands for zeros
		return array && name == "zeros"
	case len(spec.Values) <= i:
		return false
	}
	switch value := ast.Unparen(spec.Values[i]).(type) {
	case *ast.CompositeLit:
		return true
	case *ast.CallExpr:
		return strings.HasPrefix(strings.ToLower(name), "err") || slices.Contains(makers, called(value)) || called(value) == "[]byte"
	default:
		return false
	}
}

func directives(doc *ast.CommentGroup) string {
	var b strings.Builder
	for _, line := range doc.List {
		fmt.Fprintln(&b, line.Text)
	}
	return b.String()
}

// called names the function of a call as it is written: errors.New, []byte.
func called(call *ast.CallExpr) string {
	switch function := call.Fun.(type) {
	case *ast.Ident:
		return function.Name
	case *ast.SelectorExpr:
		if owner, ok := function.X.(*ast.Ident); ok {
			return owner.Name + "." + function.Sel.Name
		}
	case *ast.ArrayType:
		if element, ok := function.Elt.(*ast.Ident); ok && function.Len == nil {
			return "[]" + element.Name
		}
	}
	return ""
}

// assignments forbids to change a package variable, or to take its address. A function that declares the name itself is
// passed over.
func assignments(all *tree, p goPackage) []string {
	names := make(map[string]bool)
	for _, f := range p.files {
		if f.test {
			continue
		}
		for _, spec := range declaredVariables(f.syntax) {
			for _, name := range spec.Names {
				names[name.Name] = name.Name != "_"
			}
		}
	}
	var problems []string
	for _, function := range functionsOf(p) {
		own := declaredIn(function)
		for _, target := range targets(function.Body) {
			if name := rootName(target); names[name] && !own[name] {
				problems = append(problems, fmt.Sprintf("%s: %s is assigned\n\tbecause: package variables never change", all.position(target.Pos()), name))
			}
		}
	}
	return problems
}

// targets returns what a body assigns to, counts up or down, or takes the address of.
func targets(body *ast.BlockStmt) []ast.Expr {
	var found []ast.Expr
	ast.Inspect(body, func(node ast.Node) bool {
		switch statement := node.(type) {
		case *ast.AssignStmt:
			if statement.Tok != token.DEFINE {
				found = append(found, statement.Lhs...)
			}
		case *ast.IncDecStmt:
			found = append(found, statement.X)
		case *ast.UnaryExpr:
			if statement.Op == token.AND {
				found = append(found, statement.X)
			}
		}
		return true
	})
	return found
}

// declaredIn returns every name that a function declares: receiver, parameters, results and local variables.
func declaredIn(function *ast.FuncDecl) map[string]bool {
	own := make(map[string]bool)
	ast.Inspect(function, func(node ast.Node) bool {
		switch n := node.(type) {
		case *ast.Field:
			for _, name := range n.Names {
				own[name.Name] = true
			}
		case *ast.AssignStmt:
			if n.Tok == token.DEFINE {
				for _, target := range n.Lhs {
					own[rootName(target)] = true
				}
			}
		case *ast.ValueSpec:
			for _, name := range n.Names {
				own[name.Name] = true
			}
		case *ast.RangeStmt:
			if n.Tok == token.DEFINE {
				own[rootName(n.Key)], own[rootName(n.Value)] = true, true
			}
		}
		return true
	})
	return own
}

// rootName returns the variable at the start of x, x.y, x[i] and *x, or "".
func rootName(expression ast.Expr) string {
	switch e := expression.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return rootName(e.X)
	case *ast.IndexExpr:
		return rootName(e.X)
	case *ast.StarExpr:
		return rootName(e.X)
	case *ast.ParenExpr:
		return rootName(e.X)
	default:
		return ""
	}
}

// forbidden is a call that has one right place.
type forbidden struct {
	call    string
	except  []string
	tests   bool
	because string
}

// forbiddenCalls name what would go around a port. A linter knows them too; this holds where it is not installed.
var forbiddenCalls = []forbidden{
	{"time.Now", []string{"internal/clock"}, false, "time comes from the clock that was handed in"},
	{"time.Since", []string{"internal/clock"}, false, "time comes from the clock that was handed in"},
	{"time.Until", []string{"internal/clock"}, false, "time comes from the clock that was handed in"},
	{"time.After", []string{"internal/clock"}, false, "waiting goes through the clock"},
	{"time.Sleep", []string{"internal/clock"}, true, "waiting goes through the clock; tests wait for signals"},
	{"time.Tick", []string{"internal/clock"}, true, "waiting goes through the clock"},
	{"time.NewTimer", []string{"internal/clock"}, false, "waiting goes through the clock"},
	{"time.NewTicker", []string{"internal/clock"}, false, "waiting goes through the clock"},
	{"time.AfterFunc", []string{"internal/clock"}, false, "waiting goes through the clock"},
	{"context.Background", []string{"cmd", "bench", "rescue"}, false, "work that nobody can cancel has no owner"},
	{"context.TODO", nil, true, "work that nobody can cancel has no owner"},
	{"fmt.Print", nil, false, "output goes to the writer that was handed in"},
	{"fmt.Printf", nil, false, "output goes to the writer that was handed in"},
	{"fmt.Println", nil, false, "output goes to the writer that was handed in"},
	{"os.Exit", []string{"cmd", "scripts", "bench", "rescue"}, false, "only a program may end the program"},
	{"os.Getenv", []string{"cmd", "scripts", "bench", "rescue"}, false, "settings are handed in"},
	{"panic", []string{"."}, false, "a broken invariant goes through holdfast.Invariant; everything else is an error"},
}

// calls holds every mention of a banned function against the table, whether it is called or handed on.
func calls(all *tree, p goPackage) []string {
	var problems []string
	for _, f := range p.files {
		ast.Inspect(f.syntax, func(node ast.Node) bool {
			name := mentioned(node)
			for _, b := range forbiddenCalls {
				if name == b.call && !anyUnder(p.path, b.except) && (b.tests || !f.test && !testSupport(p.path)) {
					problems = append(problems, fmt.Sprintf("%s: %s\n\tbecause: %s", all.position(node.Pos()), name, b.because))
				}
			}
			return true
		})
	}
	return problems
}

// mentioned returns pkg.Name of a selector, or the name of a called builtin.
func mentioned(node ast.Node) string {
	switch n := node.(type) {
	case *ast.SelectorExpr:
		if owner, ok := n.X.(*ast.Ident); ok {
			return owner.Name + "." + n.Sel.Name
		}
	case *ast.CallExpr:
		name, ok := n.Fun.(*ast.Ident)
		if !ok || name.Name == "panic" && len(n.Args) == 1 && mentioned(n.Args[0]) == "http.ErrAbortHandler" {
			return "" // net/http documents this panic as the way to break a connection
		}
		return name.Name
	}
	return ""
}

// TestChecksBite feeds each check a package that breaks its rule, and one that keeps it.
func TestChecksBite(t *testing.T) {
	long := strings.Repeat("\tdone()\n", functionLinesMax+1)
	cases := []struct {
		name      string
		check     check
		bad, good string
	}{
		{"no package comment", packageComment, "package made", "// Package made is there.\npackage made"},
		{"wrong package comment", packageComment, "// This is it.\npackage made", "// Package made is there.\npackage made"},
		{"too many lines", packageSize, "package made\n" + strings.Repeat("var _ = 1\n", packageLinesMax), "package made\n" + strings.Repeat("// a\n\n", packageLinesMax)},
		{"long function", functionSize, "package made\nfunc f() {\n" + long + "}", "package made\n// f is so. Long: a table.\nfunc f() {\n" + long + "}"},
		{
			"many parameters", functionSize, "package made\nfunc f(a, b, c int, d, e, f string) {}",
			"package made\nfunc f(ctx context.Context, a, b, c int, d, e string) {}",
		},
		{
			"wide interface", interfaceSize, "package made\ntype i interface { a(); b(); c(); d(); e(); f(); g(); h() }",
			"package made\ntype i interface { a(); b(); c(); d(); e(); f(); g() }",
		},
		{"init", importEffects, "package made\nfunc init() {}", "package made\nfunc (t T) init() {}"},
		{"blank import", importEffects, "package made\nimport _ \"image/png\"", "package made\nimport _ \"embed\""},
		{"counter", packageVariables, "package made\nvar calls int", "package made\nvar errLost = errors.New(\"lost\")"},
		{"result of a call", packageVariables, "package made\nvar now = read()", "package made\nvar table = map[string]int{\"a\": 1}"},
		{"assigned", assignments, "package made\nvar t = []int{1}\nfunc f() { t[0] = 2 }", "package made\nvar t = []int{1}\nfunc f() { t := 1; t = 2 }"},
		{"address taken", assignments, "package made\nvar t = T{}\nfunc f() { g(&t) }", "package made\nvar t = T{}\nfunc f() { g(&T{}) }"},
		{"clock", calls, "package made\nfunc f() { g(time.Now) }", "package made\nfunc f() { g(c.Now) }"},
		{"panic", calls, "package made\nfunc f() { panic(1) }", "package made\nfunc f() { panic(http.ErrAbortHandler) }"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if problems := inMadeUpPackage(t, c.check, c.bad); len(problems) == 0 {
				t.Errorf("nothing is wrong with\n%.200s", c.bad)
			}
			if problems := inMadeUpPackage(t, c.check, c.good); len(problems) != 0 {
				t.Errorf("%v is wrong with\n%.200s", problems, c.good)
			}
		})
	}
}

// inMadeUpPackage runs a check over a package of one file.
func inMadeUpPackage(t *testing.T, c check, text string) []string {
	t.Helper()
	all := &tree{files: token.NewFileSet()}
	f, err := all.parse("internal/made/made.go", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c(all, goPackage{path: "internal/made", files: []goFile{f}})
}
