package config

import (
	"errors"
	"fmt"
	"strings"
)

var errNoAlertURL = errors.New("is not the URL of a notification service: it has no scheme, like ntfy://ntfy.sh/topic")

// errNoAlertURLs is that of a variable, in which a URL may have been cut in two.
var errNoAlertURLs = fmt.Errorf("%w; commas separate URLs here, write one within a URL as %%2C", errNoAlertURL)

// maxSecret is the size up to which a file is taken for one that holds a secret.
const maxSecret = 64 << 10

// asSecret reads a secret: "env:NAME", "file:/path", or else the text itself. Its
// errors name the variable or the file, never what is in it. A missing or empty
// one is an error, only the text itself may be "". See also [Source.WithoutSecrets].
func (r *reader) asSecret(l layer) (Secret, error) {
	text, err := asText(l)
	if err != nil {
		return "", err
	}
	if r.withoutSecrets {
		return Secret(text), nil
	}
	if name, ok := strings.CutPrefix(text, "env:"); ok {
		value := r.getenv(name)
		if value == "" {
			return "", fmt.Errorf("the environment variable %s is not set or empty", name)
		}
		if err := clean(value); err != nil {
			return "", fmt.Errorf("the environment variable %s %w", name, err)
		}
		return Secret(value), nil
	}
	if path, ok := strings.CutPrefix(text, "file:"); ok {
		l.value = path
		return secretFile(l)
	}
	return Secret(text), clean(text)
}

// clean refuses what cannot be sent in a header, or not as it stands.
func clean(secret string) error {
	if hasControl(secret) {
		return errors.New("holds a line end or another control character")
	}
	if strings.TrimSpace(secret) != secret {
		return errors.New("begins or ends with a space")
	}
	return nil
}

func secretFile(l layer) (Secret, error) {
	path, err := needed(asPath)(l)
	if err != nil {
		return "", fmt.Errorf("the path after file: %w", err)
	}
	text, err := readFile(path, maxSecret)
	if err != nil {
		return "", fmt.Errorf("the file of the secret %w", err)
	}
	text = strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
	if text == "" {
		return "", fmt.Errorf("the file %s is empty", path)
	}
	if err := clean(text); err != nil {
		return "", fmt.Errorf("the file %s %w", path, err)
	}
	return Secret(text), nil
}
