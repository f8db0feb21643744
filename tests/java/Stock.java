import java.io.BufferedReader;
import java.io.File;
import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.Key;
import java.security.KeyStore;
import java.security.UnrecoverableKeyException;
import java.time.LocalDateTime;
import java.time.format.DateTimeParseException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Locale;
import java.util.NoSuchElementException;
import java.util.UUID;
import javax.crypto.SecretKey;
import javax.crypto.spec.SecretKeySpec;

/**
 * The other side of the tests: what a stock server and a stock key tool do to the same file, on
 * the JDK's own KeyStore.
 *
 * <p>Without arguments it reads one command per line (fields separated by TAB) and answers with
 * zero or more lines and a final ".". A failure answers "! ExceptionClass: message". With
 * arguments it runs that one command and exits with 0 or 1. Everything is ASCII: fields and
 * answers write control characters, backslashes and non-ASCII as \t, \n, \r, \\ and \\uXXXX.
 */
public final class Stock {

    /** Both passwords are constants published with the product. */
    private static final char[] STORE_PASSWORD =
            "Matrix, Credits: Bertrand, Elvis, Fadhela, Huan, Nassim, Ramassh and Thomas"
                    .toCharArray();

    private static final char[] ENTRY_PASSWORD = "secret".toCharArray();
    private static final String PREFIX = "api_key:";
    private static final String SEPARATOR = "__";
    private static final String STARS = "********************";

    /** The one name of OID 1.2.840.113549.1.5.12 that every runtime from 11 to 25 accepts. */
    private static final String MASTER_KEY_ALGORITHM = "PBKDF2WithHmacSHA1";

    private Stock() {}

    public static void main(String[] args) throws IOException {
        PrintStream out =
                new PrintStream(new FileOutputStream(FileDescriptor.out), false, "US-ASCII");
        if (args.length > 0) {
            boolean ok = answer(Arrays.asList(args), out);
            out.flush();
            System.exit(ok ? 0 : 1);
        }
        BufferedReader in =
                new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            answer(Arrays.asList(line.split("\t", -1)), out);
            out.print(".\n");
            out.flush();
        }
    }

    /** Runs one command and prints its lines, or the one line that says why it failed. */
    private static boolean answer(List<String> fields, PrintStream out) {
        List<String> lines;
        boolean ok = true;
        try {
            List<String> plain = new ArrayList<>();
            for (String field : fields) {
                plain.add(unescape(field));
            }
            lines = run(plain);
        } catch (Exception | StackOverflowError | OutOfMemoryError e) {
            ok = false;
            String message = escape(String.valueOf(e.getMessage()));
            lines = Collections.singletonList(
                    "! " + e.getClass().getSimpleName() + ": " + message);
        }
        for (String line : lines) {
            out.print((ok ? shield(line) : line) + "\n");
        }
        return ok;
    }

    private static List<String> run(List<String> f) throws Exception {
        String text = f.size() > 1 ? f.get(1) : "";
        switch (f.get(0)) {
            case "new":
                return create(text);
            case "mixed":
                return mixed(text, f.get(2));
            case "create":
                return createKey(text, f.get(2), f.get(3), f.size() > 4 ? f.get(4) : null);
            case "create-many":
                return createMany(text, Integer.parseInt(f.get(2)), f.get(3));
            case "revoke":
                return revoke(text, f.get(2));
            case "list":
                return list(text);
            case "apikeys":
                return apiKeys(text);
            case "find":
                return find(text, f.get(2));
            case "rewrite":
                save(load(text), f.get(2));
                return none();
            case "parse":
                return parse(text);
            case "fold":
                return one(escape(text.toLowerCase(Locale.ENGLISH)));
            case "split":
                return split(text);
            case "version":
                return one(System.getProperty("java.version"));
            default:
                throw new IllegalArgumentException("no such command: " + f.get(0));
        }
    }

    // What changes a file

    private static List<String> create(String file) throws Exception {
        save(newStore(), file);
        return none();
    }

    /** The entries that are not ours: the master key and one user. */
    private static KeyStore newStore() throws Exception {
        KeyStore store = emptyStore();
        byte[] master = new byte[32];
        for (int i = 0; i < master.length; i++) {
            master[i] = (byte) i;
        }
        SecretKey masterKey = new SecretKeySpec(master, MASTER_KEY_ALGORITHM);
        put(store, "masterkey", masterKey, STORE_PASSWORD);
        put(store, "user:admin", aes("stock-user"), ENTRY_PASSWORD);
        return store;
    }

    /** Adds the private key and the certificate of a keystore whose password is the entry one. */
    private static List<String> mixed(String file, String identityFile) throws Exception {
        KeyStore identity = load(identityFile, ENTRY_PASSWORD);
        KeyStore store = newStore();
        store.setKeyEntry(
                "server",
                identity.getKey("server", ENTRY_PASSWORD),
                STORE_PASSWORD,
                identity.getCertificateChain("server"));
        store.setCertificateEntry("ca", identity.getCertificate("ca"));
        save(store, file);
        return none();
    }

    private static List<String> createKey(String file, String alias, String key, String expiry)
            throws Exception {
        KeyStore store = loadOrEmpty(file);
        String value = expiry == null ? key : key + SEPARATOR + expiry;
        put(store, PREFIX + alias, aes(value), ENTRY_PASSWORD);
        save(store, file);
        return none();
    }

    private static List<String> createMany(String file, int count, String prefix)
            throws Exception {
        KeyStore store = loadOrEmpty(file);
        List<String> lines = new ArrayList<>();
        for (int i = 1; i <= count; i++) {
            String key = UUID.randomUUID().toString();
            put(store, PREFIX + prefix + i, aes(key), ENTRY_PASSWORD);
            lines.add(row(prefix + i, key));
        }
        save(store, file);
        return lines;
    }

    private static List<String> revoke(String file, String alias) throws Exception {
        KeyStore store = load(file);
        if (!store.containsAlias(PREFIX + alias)) {
            throw new NoSuchElementException("no such alias: " + alias);
        }
        store.deleteEntry(PREFIX + alias);
        save(store, file);
        return none();
    }

    private static void put(KeyStore store, String alias, SecretKey key, char[] password)
            throws GeneralSecurityException {
        store.setEntry(
                alias,
                new KeyStore.SecretKeyEntry(key),
                new KeyStore.PasswordProtection(password));
    }

    private static SecretKey aes(String value) {
        return new SecretKeySpec(value.getBytes(StandardCharsets.UTF_8), "AES");
    }

    // What reads a file

    private static List<String> list(String file) throws Exception {
        KeyStore store = load(file);
        List<String> lines = new ArrayList<>();
        for (String alias : Collections.list(store.aliases())) {
            String created = Long.toString(store.getCreationDate(alias).getTime());
            lines.add(row(alias, created, describe(store, alias)));
        }
        return lines;
    }

    private static String describe(KeyStore store, String alias) throws GeneralSecurityException {
        if (store.isCertificateEntry(alias)) {
            return "certificate";
        }
        if (store.entryInstanceOf(alias, KeyStore.PrivateKeyEntry.class)) {
            return "private-key";
        }
        if (alias.startsWith(PREFIX)) {
            Key key = tryKey(store, alias, ENTRY_PASSWORD);
            return key == null
                    ? "unreadable"
                    : new String(key.getEncoded(), StandardCharsets.UTF_8);
        }
        Key key = tryKey(store, alias, ENTRY_PASSWORD);
        if (key == null) {
            key = tryKey(store, alias, STORE_PASSWORD);
        }
        return key == null ? "unreadable" : hex(key.getEncoded());
    }

    private static Key tryKey(KeyStore store, String alias, char[] password)
            throws GeneralSecurityException {
        try {
            return store.getKey(alias, password);
        } catch (UnrecoverableKeyException e) {
            return null;
        }
    }

    /** The stock listing; an entry that cannot be decrypted or parsed ends it. */
    private static List<String> apiKeys(String file) throws Exception {
        KeyStore store = load(file);
        List<String> lines = new ArrayList<>();
        for (String alias : keyAliases(store)) {
            String[] parts = value(store, alias).split(SEPARATOR);
            String key = parts[0];
            if (parts.length > 1) {
                LocalDateTime.parse(parts[1]);
            }
            String mask = STARS + key.substring(Math.max(0, key.length() - 4));
            lines.add(row(name(alias), mask, parts.length > 1 ? parts[1] : "-"));
        }
        return lines;
    }

    /** How the server authenticates a request; an entry it cannot take apart ends the loop. */
    private static List<String> find(String file, String token) throws Exception {
        KeyStore store = load(file);
        for (String alias : keyAliases(store)) {
            String[] parts = value(store, alias).split(SEPARATOR);
            LocalDateTime expiry = parts.length > 1 ? LocalDateTime.parse(parts[1]) : null;
            if (parts[0].equals(token)) {
                boolean valid = expiry == null || expiry.isAfter(LocalDateTime.now());
                return one((valid ? "accepted " : "expired ") + escape(name(alias)));
            }
        }
        return one("unknown");
    }

    private static List<String> keyAliases(KeyStore store) throws GeneralSecurityException {
        List<String> aliases = new ArrayList<>();
        for (String alias : Collections.list(store.aliases())) {
            if (alias.startsWith(PREFIX)) {
                aliases.add(alias);
            }
        }
        return aliases;
    }

    private static String value(KeyStore store, String alias) throws GeneralSecurityException {
        KeyStore.SecretKeyEntry entry =
                (KeyStore.SecretKeyEntry)
                        store.getEntry(alias, new KeyStore.PasswordProtection(ENTRY_PASSWORD));
        return new String(entry.getSecretKey().getEncoded(), StandardCharsets.UTF_8);
    }

    private static String name(String alias) {
        return alias.substring(PREFIX.length());
    }

    // The file

    private static KeyStore emptyStore() throws Exception {
        KeyStore store = KeyStore.getInstance("PKCS12");
        store.load(null, STORE_PASSWORD);
        return store;
    }

    private static KeyStore loadOrEmpty(String file) throws Exception {
        return new File(file).exists() ? load(file) : emptyStore();
    }

    private static KeyStore load(String file) throws Exception {
        return load(file, STORE_PASSWORD);
    }

    private static KeyStore load(String file, char[] password) throws Exception {
        KeyStore store = KeyStore.getInstance("PKCS12");
        try (InputStream in = new FileInputStream(file)) {
            store.load(in, password);
        }
        return store;
    }

    /** In place: the stream truncates the file, and there is no lock. */
    private static void save(KeyStore store, String file) throws Exception {
        try (OutputStream out = new FileOutputStream(file)) {
            store.store(out, STORE_PASSWORD);
        }
    }

    // What Java makes of a text

    private static List<String> parse(String text) {
        try {
            return one("valid " + LocalDateTime.parse(text));
        } catch (DateTimeParseException e) {
            return one("invalid");
        }
    }

    private static List<String> split(String text) {
        List<String> lines = new ArrayList<>();
        for (String part : text.split(SEPARATOR)) {
            lines.add("=" + escape(part));
        }
        return lines;
    }

    // The protocol

    private static List<String> none() {
        return Collections.emptyList();
    }

    private static List<String> one(String line) {
        return Collections.singletonList(line);
    }

    private static String row(String... fields) {
        List<String> escaped = new ArrayList<>();
        for (String field : fields) {
            escaped.add(escape(field));
        }
        return String.join("\t", escaped);
    }

    /** Keeps an answer that starts like the end mark or like a failure apart from them. */
    private static String shield(String line) {
        return line.startsWith(".") || line.startsWith("!")
                ? String.format("\\u%04x", (int) line.charAt(0)) + line.substring(1)
                : line;
    }

    private static String escape(String text) {
        StringBuilder out = new StringBuilder();
        for (char c : text.toCharArray()) {
            int simple = "\t\n\r\\".indexOf(c);
            if (simple >= 0) {
                out.append('\\').append("tnr\\".charAt(simple));
            } else if (c < ' ' || c > '~') {
                out.append(String.format("\\u%04x", (int) c));
            } else {
                out.append(c);
            }
        }
        return out.toString();
    }

    private static String unescape(String text) {
        StringBuilder out = new StringBuilder();
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (c != '\\') {
                out.append(c);
                continue;
            }
            char code = text.charAt(++i);
            if (code == 'u') {
                out.append((char) Integer.parseInt(text.substring(i + 1, i + 5), 16));
                i += 4;
            } else {
                int simple = "tnr\\".indexOf(code);
                if (simple < 0) {
                    throw new IllegalArgumentException("no such escape: \\" + code);
                }
                out.append("\t\n\r\\".charAt(simple));
            }
        }
        return out.toString();
    }

    private static String hex(byte[] bytes) {
        StringBuilder out = new StringBuilder();
        for (byte b : bytes) {
            out.append(String.format("%02x", b));
        }
        return out.toString();
    }
}
