import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Base64;

/** Reads bodies in Base64, one a line; says which tool a service with Jackson would call. */
public class Parse {
  public static void main(String[] arguments) throws Exception {
    ObjectMapper mapper = new ObjectMapper();
    BufferedReader lines =
        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
    for (String line = lines.readLine(); line != null; line = lines.readLine()) {
      String called = null;
      try {
        JsonNode read = mapper.readTree(Base64.getDecoder().decode(line));
        for (JsonNode one : read.isArray() ? read : mapper.createArrayNode().add(read)) {
          if ("tools/call".equals(one.path("method").asText())) {
            called = one.path("params").path("name").asText();
          }
        }
      } catch (Exception | StackOverflowError unreadable) {
        called = null;
      }
      System.out.println(mapper.writeValueAsString(java.util.Collections.singletonMap("called", called)));
      System.out.flush();
    }
  }
}
