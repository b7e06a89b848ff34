// Candidates' rows of ids to integers, and scored candidates to JSON. Decides no error: in any doubt it says no.
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace {
const int64_t MAX_COLUMNS = 32, LINE = 128;  // LINE: the most bytes of one candidate's answer, but for its status
const char KEY[] = "candidates";

struct Text {
    const char *at, *end;

    void skip_space() {
        while (at < end && (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t')) at++;
    }
    bool next_is(char wanted) {
        skip_space();
        return at < end && *at == wanted;
    }
    bool take(char wanted) {
        if (!next_is(wanted)) return false;
        at++;
        return true;
    }
};

struct Slice {
    int64_t begin, size;
};

// The struct of rows.py.
struct Rows {
    Slice candidates;  // in the body, as are the names
    int64_t rows, columns;
    Slice name[MAX_COLUMNS];
    int64_t capacity;
    int64_t *values;  // [rows, columns]
};

// The struct of rows.py. The arrays have `rows` elements.
struct Scored {
    int64_t rows;
    const int64_t *item_id;
    const float *pctr;
    const int64_t *rank;
    const uint8_t *status;
    const char *const *statuses;  // their names
};

// A key of printable ASCII without escapes.
bool take_plain_key(Text &text, const char *body, Slice &name) {
    if (!text.take('"')) return false;
    const char *begin = text.at;
    while (text.at < text.end && *text.at != '"') {
        if (*text.at < ' ' || *text.at > '~' || *text.at == '\\') return false;
        text.at++;
    }
    name = {begin - body, text.at - begin};
    return text.take('"');
}

bool take_same_key(Text &text, const char *name, int64_t size) {
    if (!text.take('"') || text.end - text.at <= size || memcmp(text.at, name, size) != 0) return false;
    text.at += size;
    return *text.at++ == '"';
}

// Digits alone, without a leading zero, up to 2^63 - 1; what may follow is for the caller to check.
bool take_id(Text &text, int64_t &value) {
    text.skip_space();
    if (text.at == text.end || *text.at < '0' || *text.at > '9') return false;
    const auto found = std::from_chars(text.at, text.end, value);
    if (found.ec != std::errc() || (*text.at == '0' && found.ptr - text.at > 1)) return false;
    text.at = found.ptr;
    return true;
}

bool is_new(const Rows &rows, const char *body, const Slice &name) {
    for (int64_t i = 0; i < rows.columns; i++) {
        const Slice &other = rows.name[i];
        if (other.size == name.size && memcmp(body + other.begin, body + name.begin, name.size) == 0) return false;
    }
    return true;
}

// The first row names the columns.
bool take_key(Text &text, const char *body, Rows &rows, int64_t column) {
    if (rows.rows > 0)
        return column < rows.columns && take_same_key(text, body + rows.name[column].begin, rows.name[column].size);
    if (column == MAX_COLUMNS || !take_plain_key(text, body, rows.name[column])) return false;
    if (!is_new(rows, body, rows.name[column])) return false;
    rows.columns = column + 1;
    return true;
}

bool take_row(Text &text, const char *body, Rows &rows) {
    if (!text.take('{')) return false;
    int64_t column = 0;
    do {
        const int64_t place = rows.rows * rows.columns + column;
        if (!take_key(text, body, rows, column) || !text.take(':') || place >= rows.capacity) return false;
        if (!take_id(text, rows.values[place])) return false;
        column++;
    } while (text.take(','));
    rows.rows++;
    return column == rows.columns && text.take('}');
}

bool take_rows(Text &text, const char *body, Rows &rows) {
    text.skip_space();
    rows.rows = rows.columns = 0;
    const char *begin = text.at;
    if (!text.take('[')) return false;
    do {
        if (!take_row(text, body, rows)) return false;
    } while (text.take(','));
    if (!text.take(']')) return false;
    rows.candidates = {begin - body, text.at - begin};
    return true;
}

// Behind the string that begins here; false if it does not end.
bool skip_string(Text &text, bool &escaped) {
    escaped = false;
    for (text.at++; text.at < text.end; text.at++) {
        if (*text.at == '"') {
            text.at++;
            return true;
        }
        if (*text.at == '\\') {
            escaped = true;
            if (++text.at == text.end) return false;
        }
    }
    return false;
}

// A string at the top level, which may be a key. False in doubt.
bool read_top_string(Text &text, const char *body, Rows &rows, bool &seen) {
    bool escaped;
    const char *begin = text.at + 1;
    if (!skip_string(text, escaped)) return false;
    const int64_t size = text.at - 1 - begin;
    if (!text.next_is(':')) return true;
    if (escaped) return false;  // it could spell anything
    if (size != sizeof KEY - 1 || memcmp(begin, KEY, size) != 0) return true;
    if (seen) return false;
    seen = true;
    return text.take(':') && take_rows(text, body, rows);
}

char *put(char *out, const char *text, int64_t size) {
    memcpy(out, text, size);
    return out + size;
}

template <int64_t SIZE>
char *put(char *out, const char (&text)[SIZE]) {
    return put(out, text, SIZE - 1);
}

// The shortest decimal that is the same float32, and that a reader takes for no integer.
char *put(char *out, float value) {
    char *end = std::to_chars(out, out + 32, value).ptr;
    for (const char *at = out; at < end; at++)
        if (*at == '.' || *at == 'e') return end;
    return put(end, ".0");
}

char *put(char *out, int64_t value) { return std::to_chars(out, out + 24, value).ptr; }
}  // namespace

#pragma GCC visibility push(default)
extern "C" {
// 1 if `rows` has been filled in: the place of the top-level value of "candidates", and what is in it, which is an
// array of objects with the same keys in the same order, all of whose values are ids. Valid only if the body is JSON
// once that value is replaced by [], which the caller has to find out.
int ctr_read_rows(const char *body, int64_t size, Rows *rows) {
    Text text = {body, body + size};
    if (!text.take('{')) return 0;
    int64_t depth = 1;
    bool seen = false, escaped;
    while (text.at < text.end) {
        const char c = *text.at;
        if (c == '"') {
            if (!(depth == 1 ? read_top_string(text, body, *rows, seen) : skip_string(text, escaped))) return 0;
            continue;
        }
        if (c == '{' || c == '[') depth++;
        if (c == '}' || c == ']') depth--;
        text.at++;
    }
    return seen && depth == 0;
}

// Bytes of JSON written to `out`, which has `room`; 0 if that may not do or a score is not finite.
int64_t ctr_write_rows(const Scored *scored, char *out, int64_t room) {
    const char *begin = out, *end = out + room;
    for (int64_t i = 0; i < scored->rows; i++) {
        const char *status = scored->statuses[scored->status[i]];
        const int64_t size = (int64_t)strlen(status);
        if (end - out < LINE + size || !std::isfinite(scored->pctr[i])) return 0;
        out = put(put(out, i ? ",{\"item_id\":" : "[{\"item_id\":", 12), scored->item_id[i]);
        out = put(put(out, ",\"pctr\":"), scored->pctr[i]);
        out = put(put(out, ",\"rank\":"), scored->rank[i]);
        out = put(put(put(out, ",\"status\":\""), status, size), "\"}");
    }
    if (out == begin || out == end) return 0;
    *out++ = ']';
    return out - begin;
}
}
#pragma GCC visibility pop
