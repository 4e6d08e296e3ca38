package bolt

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// position is a place in the journal: all of the files before seq, and the first
// off bytes of that one.
type position struct {
	seq uint64
	off int64
}

func (p position) encode() []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, p.seq), uint64(p.off))
}

func decodePosition(b []byte) (position, error) {
	if len(b) != 16 {
		return position{}, errors.New("the place in the journal is damaged")
	}
	return position{binary.BigEndian.Uint64(b), int64(binary.BigEndian.Uint64(b[8:]))}, nil
}

func (p position) compare(o position) int {
	return cmp.Or(cmp.Compare(p.seq, o.seq), cmp.Compare(p.off, o.off))
}

// encodeFiles returns the numbers of journal files for the database.
func encodeFiles(files map[uint64]bool) []byte {
	var b []byte
	for _, seq := range slices.Sorted(maps.Keys(files)) {
		b = binary.BigEndian.AppendUint64(b, seq)
	}
	return b
}

// decodeFiles is the inverse of encodeFiles.
func decodeFiles(b []byte) map[uint64]bool {
	files := map[uint64]bool{}
	for ; len(b) >= 8; b = b[8:] {
		files[binary.BigEndian.Uint64(b)] = true
	}
	return files
}

// journalName is the name of a journal file.
type journalName struct {
	name string
	seq  uint64
}

func journalPath(dir string, seq uint64) string {
	return filepath.Join(dir, fmt.Sprintf("usage-%d.log", seq))
}

// journalNames lists the journal files of a folder in their order.
func journalNames(dir string) ([]journalName, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var list []journalName
	for _, e := range entries {
		number, found := strings.CutPrefix(e.Name(), "usage-")
		number, isLog := strings.CutSuffix(number, ".log")
		if seq, err := strconv.ParseUint(number, 10, 64); found && isLog && err == nil {
			list = append(list, journalName{e.Name(), seq})
		}
	}
	slices.SortFunc(list, func(a, b journalName) int { return cmp.Compare(a.seq, b.seq) })
	return list, nil
}
