import java.io.File;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.security.KeyStore;
import java.security.PKCS12Attribute;
import java.util.Collections;
import java.util.Set;
import javax.crypto.SecretKey;
import javax.crypto.spec.SecretKeySpec;

/**
 * Writes one keystore with whatever the runtime and its options say; see README.md.
 *
 * <p>Usage: {@code java WriteVectors KIND FILE [IDENTITY_FILE]}, where KIND is one of
 * <ul>
 *   <li>{@code keys}: the master key, a user and three API keys;
 *   <li>{@code attrs}: the same, with a custom attribute on the first API key;
 *   <li>{@code mixed}: the same as keys, plus a private key and a trusted certificate;
 *   <li>{@code master}: the master key alone;
 *   <li>{@code add}: one more API key in the file that is there.
 * </ul>
 */
public final class WriteVectors {

    /** Both passwords are constants published with the product. */
    private static final char[] STORE_PASSWORD =
            "Matrix, Credits: Bertrand, Elvis, Fadhela, Huan, Nassim, Ramassh and Thomas"
                    .toCharArray();

    private static final char[] ENTRY_PASSWORD = "secret".toCharArray();
    private static final Set<KeyStore.Entry.Attribute> PLAIN = Collections.emptySet();
    private static final Set<KeyStore.Entry.Attribute> CUSTOM =
            Collections.<KeyStore.Entry.Attribute>singleton(
                    new PKCS12Attribute("1.3.6.1.4.1.99999.1", "hello"));

    private WriteVectors() {}

    public static void main(String[] args) throws Exception {
        String kind = args[0];
        String file = args[1];
        KeyStore store = load(kind.equals("add") ? file : null, STORE_PASSWORD);
        if (kind.equals("add")) {
            addOpenAi(store, PLAIN);
        } else {
            addMasterKey(store);
        }
        if (kind.equals("keys") || kind.equals("mixed")) {
            addKeys(store, PLAIN);
        }
        if (kind.equals("attrs")) {
            addKeys(store, CUSTOM);
        }
        if (kind.equals("mixed")) {
            addIdentity(store, load(args[2], ENTRY_PASSWORD));
        }
        try (OutputStream out = new FileOutputStream(new File(file))) {
            store.store(out, STORE_PASSWORD);
        }
    }

    private static KeyStore load(String file, char[] password) throws Exception {
        KeyStore store = KeyStore.getInstance("PKCS12");
        if (file == null) {
            store.load(null, password);
            return store;
        }
        try (InputStream in = new FileInputStream(file)) {
            store.load(in, password);
        }
        return store;
    }

    private static void addMasterKey(KeyStore store) throws Exception {
        byte[] bytes = new byte[32];
        for (int i = 0; i < bytes.length; i++) {
            bytes[i] = (byte) i;
        }
        // The name that gives the algorithm identifier 1.2.840.113549.1.5.12
        put(store, "masterkey", new SecretKeySpec(bytes, "PBKDF2WithHmacSHA1"), PLAIN, true);
    }

    private static void addKeys(KeyStore store, Set<KeyStore.Entry.Attribute> attributes)
            throws Exception {
        put(store, "user:admin", aes("stock-user"), PLAIN, false);
        addOpenAi(store, attributes);
        String claude = "3f2b1c4d-8e5f-4a2b-bc15-0ba0f60b15f3__2027-12-31T23:59:59";
        put(store, "api_key:mcp-claude", aes(claude), PLAIN, false);
        String past = "7d0f6a52-1c3b-4e8d-9a67-5b2e4c8f1d90__2020-01-01T00:00";
        put(store, "api_key:\u00fcn\u00ef-\ud83d\ude00", aes(past), PLAIN, false);
    }

    private static void addOpenAi(KeyStore store, Set<KeyStore.Entry.Attribute> attributes)
            throws Exception {
        SecretKey key = aes("eb47c2be-927f-495f-aa97-0ba0f60b8986");
        put(store, "api_key:mcp-openai", key, attributes, false);
    }

    private static void addIdentity(KeyStore store, KeyStore identity) throws Exception {
        store.setKeyEntry(
                "server",
                identity.getKey("server", ENTRY_PASSWORD),
                STORE_PASSWORD,
                identity.getCertificateChain("server"));
        store.setCertificateEntry("ca", identity.getCertificate("ca"));
    }

    private static SecretKey aes(String value) {
        return new SecretKeySpec(value.getBytes(StandardCharsets.UTF_8), "AES");
    }

    private static void put(
            KeyStore store,
            String alias,
            SecretKey key,
            Set<KeyStore.Entry.Attribute> attributes,
            boolean master)
            throws Exception {
        char[] password = master ? STORE_PASSWORD : ENTRY_PASSWORD;
        store.setEntry(
                alias,
                new KeyStore.SecretKeyEntry(key, attributes),
                new KeyStore.PasswordProtection(password));
    }
}
