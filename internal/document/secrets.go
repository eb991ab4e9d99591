package document

import "github.com/holdfast-backup/holdfast"

// Secret is a secret that a document declares: what it opens, and where it is found.
type Secret struct {
	Name   string // repository/NAME, mail or webhook/URL: by it a server keeps the secret
	Kind   string // of the document that declares it
	Of     string // the name of that document; "" of the installation's
	Source holdfast.SecretSource
}

// Secrets returns the secrets that the documents of files declare, in the order of the files. Whatever is wrong in the files is left to
// Read, a document with a mistake in it is passed over, and a name that none of the documents bears is no mistake here: the files may be
// a part of a set. Nothing is looked up.
func Secrets(files ...File) []Secret {
	r := &reader{names: map[string]map[string]*page{}}
	for _, file := range files {
		r.readFile(file)
	}
	var all []Secret
	add := func(s Secret) {
		if s.Source != (holdfast.SecretSource{}) {
			all = append(all, s)
		}
	}
	for _, e := range r.repositories {
		add(Secret{"repository/" + e.noun.Name, KindRepository, e.noun.Name, e.noun.Password})
	}
	if r.installation == nil {
		return all
	}
	if mail := r.installation.noun.Mail; mail != nil {
		add(Secret{"mail", KindInstallation, "", mail.Password})
	}
	for _, hook := range r.installation.noun.Webhooks {
		add(Secret{"webhook/" + hook.URL, KindInstallation, "", hook.Secret})
	}
	return all
}
