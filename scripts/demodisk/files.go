package main

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// born is the time that every file carries.
var born = time.Date(2026, time.March, 2, 6, 30, 0, 0, time.UTC)

// file is one file of a disk: its slash-separated path and what it holds.
type file struct {
	path    string
	content []byte
}

// writeFiles writes the files of a role below a directory, all with the same time.
func writeFiles(role, directory string) error {
	files, err := filesOf(role)
	if err != nil {
		return err
	}
	for _, f := range files {
		name := filepath.Join(directory, filepath.FromSlash(f.path))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, f.content, 0o644); err != nil {
			return err
		}
	}
	return filepath.WalkDir(directory, func(name string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chtimes(name, born, born)
	})
}

// filesOf returns the files of a role, in a fixed order.
func filesOf(role string) ([]file, error) {
	switch role {
	case "web":
		return webServer(), nil
	case "office":
		return officeShare(), nil
	case "orders":
		return orderDatabase(), nil
	default:
		return nil, fmt.Errorf("unknown role %q: web, office or orders is wanted", role)
	}
}

// webServer is a small Linux web server: configuration, pages, assets and access logs.
func webServer() []file {
	var files []file
	for i := range 12 {
		path := fmt.Sprintf("etc/nginx/sites/shop-%02d.conf", i)
		files = append(files, file{path, siteConfiguration(path, i)})
	}
	for i := range 160 {
		path := fmt.Sprintf("var/www/shop/articles/%03d.html", i)
		files = append(files, file{path, page(path, 4+i%9)})
	}
	for i := range 60 {
		path := fmt.Sprintf("var/www/shop/assets/picture-%03d.bin", i)
		files = append(files, file{path, noise(path, 3000+i*97)})
	}
	for day := range 14 {
		path := fmt.Sprintf("var/log/nginx/access.log.%d", day)
		files = append(files, file{path, accessLog(path, day, 2600)})
	}
	return files
}

// officeShare is what people keep on a Windows file server: minutes, spreadsheets and a few larger archives.
func officeShare() []file {
	var files []file
	for _, person := range []string{"Anna Berg", "Jonas Weiss", "Mira Okafor", "Tomas Lind"} {
		for i := range 45 {
			path := fmt.Sprintf("Users/%s/Documents/Minutes %d-%02d.txt", person, 2022+i/12, 1+i%12)
			files = append(files, file{path, minutes(path, 6+i%7)})
		}
	}
	for i := range 24 {
		path := fmt.Sprintf("Shares/Accounting/ledger-%d-%02d.csv", 2024+i/12, 1+i%12)
		files = append(files, file{path, ledger(path, 1500)})
	}
	for i := range 36 {
		path := fmt.Sprintf("Shares/Photos/scan-%03d.bin", i)
		files = append(files, file{path, noise(path, 8000+i*211)})
	}
	return files
}

// orderDatabase is the data disk of a small order system: segments of fixed-size records, a write-ahead log and exports.
func orderDatabase() []file {
	var files []file
	for i := range 48 {
		path := fmt.Sprintf("orders/segments/%06d.seg", i)
		files = append(files, file{path, records(path, i, 1024)})
	}
	for i := range 8 {
		path := fmt.Sprintf("orders/journal/%08d.wal", 4096+i)
		files = append(files, file{path, records(path, 1000+i, 2048)})
	}
	for i := range 150 {
		path := fmt.Sprintf("orders/exports/day-%03d.json", i)
		files = append(files, file{path, export(path, 30+i%40)})
	}
	return files
}

// words are what the texts are made of.
var words = strings.Fields(`account agreed answer april archive august autumn backup before budget carrier centre change
	clear close copy cost counter customer daily delivery disk door draft early evening every figure first floor friday
	garden green half harbour history hour invoice january keep ladder later letter light list market meeting minute
	monday morning never north number october office open order paper parcel plan point price quarter question reason
	record region report restore return river room sample season second september share shelf signed small snapshot
	south spring stock store street summer table team thursday ticket today total train under update valid volume wait
	warehouse weekly window winter yard year zone`)

// random returns a source of numbers that depends on the path alone.
func random(path string) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(path)) // a hash never fails
	return rand.New(rand.NewPCG(h.Sum64(), 3))
}

// sentence returns a line of eight to nineteen words.
func sentence(r *rand.Rand) string {
	picked := make([]string, 8+r.IntN(12))
	for i := range picked {
		picked[i] = words[r.IntN(len(words))]
	}
	text := strings.Join(picked, " ")
	return strings.ToUpper(text[:1]) + text[1:] + "."
}

func siteConfiguration(path string, number int) []byte {
	var b bytes.Buffer
	r := random(path)
	fmt.Fprintf(&b, "server {\n  listen 443 ssl;\n  server_name shop-%02d.example.org;\n", number)
	for range 40 {
		fmt.Fprintf(&b, "  location /%s/%s { proxy_pass http://10.1.1.%d:%d; }\n",
			words[r.IntN(len(words))], words[r.IntN(len(words))], 4+r.IntN(200), 8000+r.IntN(90))
	}
	b.WriteString("}\n")
	return b.Bytes()
}

func page(path string, paragraphs int) []byte {
	var b bytes.Buffer
	r := random(path)
	fmt.Fprintf(&b, "<!doctype html>\n<html lang=\"en\">\n<title>%s</title>\n", sentence(r))
	for range paragraphs {
		fmt.Fprintf(&b, "<p>%s %s\n%s</p>\n", sentence(r), sentence(r), sentence(r))
	}
	b.WriteString("</html>\n")
	return b.Bytes()
}

func accessLog(path string, day, lines int) []byte {
	var b bytes.Buffer
	r := random(path)
	at := born.AddDate(0, 0, -day)
	for range lines {
		at = at.Add(time.Duration(1+r.IntN(40)) * time.Second)
		fmt.Fprintf(&b, "10.1.1.%d - - [%s] \"GET /shop/articles/%03d.html HTTP/1.1\" 200 %d\n",
			4+r.IntN(28), at.Format("02/Jan/2006:15:04:05 +0000"), r.IntN(160), 900+r.IntN(64)*16)
	}
	return b.Bytes()
}

func minutes(path string, paragraphs int) []byte {
	var b bytes.Buffer
	r := random(path)
	for i := range paragraphs {
		fmt.Fprintf(&b, "%d. %s\r\n   %s\r\n   %s\r\n\r\n", i+1, sentence(r), sentence(r), sentence(r))
	}
	return b.Bytes()
}

func ledger(path string, lines int) []byte {
	var b bytes.Buffer
	r := random(path)
	b.WriteString("date;account;text;amount\r\n")
	for i := range lines {
		fmt.Fprintf(&b, "%s;%d;%s %s;%d.%02d\r\n", born.AddDate(0, 0, -i/50).Format(time.DateOnly),
			4000+r.IntN(40)*10, words[r.IntN(len(words))], words[r.IntN(len(words))], r.IntN(900), r.IntN(100))
	}
	return b.Bytes()
}

// records returns count records of 256 bytes: a header, a few random bytes and padding, as a database would lay them out.
func records(path string, segment, count int) []byte {
	const recordBytes = 256
	content := make([]byte, count*recordBytes)
	r := random(path)
	for i := range count {
		record := content[i*recordBytes:][:recordBytes]
		text := fmt.Appendf(nil, "ORD1 %06d/%05d customer=%05d state=%s", segment, i, r.IntN(3000), words[r.IntN(len(words))])
		copy(record, text)
		for j := 240; j < 248; j++ {
			record[j] = byte(r.Uint32())
		}
	}
	return content
}

func export(path string, lines int) []byte {
	var b bytes.Buffer
	r := random(path)
	for i := range lines {
		fmt.Fprintf(&b, `{"order":%d,"customer":%d,"item":%q,"count":%d,"cents":%d}`+"\n",
			100000+i, r.IntN(3000), words[r.IntN(len(words))], 1+r.IntN(9), 100+r.IntN(90000))
	}
	return b.Bytes()
}

// noise returns bytes that do not compress, as pictures do not.
func noise(path string, size int) []byte {
	content := make([]byte, size)
	r := random(path)
	for i := range content {
		content[i] = byte(r.Uint32())
	}
	return content
}
